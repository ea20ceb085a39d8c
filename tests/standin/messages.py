"""What wsl.exe says, in the two languages in which the set-up is shown to work.

The sentences are translated by Windows; the error path behind "Error code" is not.
"""

from __future__ import annotations

MESSAGES = {
    "en": {
        "failed": "The operation failed.\nError code: {}",
        "not_found": "There is no distribution with the supplied name.\nError code: {}",
        "no_distribution": "Windows Subsystem for Linux has no installed distributions.",
        "not_installed": "The Windows Subsystem for Linux is not installed. You can install by running "
        "'wsl.exe --install'.",
        "no_kernel": "Error: 0x1bc",
        "invalid": "Invalid command line argument: {}",
        "user": "User not found.\nError code: {}",
        "done": "The operation completed successfully. ",
        "restart": "The requested operation is successful. Changes will not be effective until the system is "
        "rebooted. ",
        "heading": "Windows Subsystem for Linux Distributions:",
        "default": "{} (Default)",
        "status_default": "Default Distribution: {}",
        "status_version": "Default Version: 2",
        "version": "WSL version: {}\nKernel version: 6.6.87.2-1\nWindows version: 10.0.{}.0",
    },
    "zh": {
        "failed": "操作失败。\n错误代码: {}",
        "not_found": "不存在具有所提供名称的分发。\n错误代码: {}",
        "no_distribution": "适用于 Linux 的 Windows 子系统没有已安装的分发。",
        "not_installed": "未安装适用于 Linux 的 Windows 子系统。可通过运行“wsl.exe --install”进行安装。",
        "no_kernel": "错误: 0x1bc",
        "invalid": "无效的命令行参数: {}",
        "user": "找不到用户。\n错误代码: {}",
        "done": "操作成功完成。 ",
        "restart": "请求的操作成功。直到重新启动系统前更改将不会生效。 ",
        "heading": "适用于 Linux 的 Windows 子系统分发:",
        "default": "{} (默认值)",
        "status_default": "默认分发: {}",
        "status_version": "默认版本: 2",
        "version": "WSL 版本: {}\n内核版本: 6.6.87.2-1\nWindows 版本: 10.0.{}.0",
    },
}

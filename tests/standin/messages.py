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
        "invalid": "Invalid command line argument: {}\nPlease use 'wsl.exe --help' to get a list of "
        "supported arguments.",
        "no_value": "Command line argument {} requires a value.\nPlease use 'wsl.exe --help' to get "
        "a list of supported arguments.",
        "usage": "Usage: wsl.exe [Argument] [Options...] [CommandLine]",
        "bad_argument": "The parameter is incorrect. \nError code: Wsl/E_INVALIDARG",
        "not_together": "These arguments cannot be used together.\nError code: {}",
        "distribution_set": "The distribution name has already been set.",
        "name_taken": "A distribution with the supplied name already exists. Use --name to choose a "
        "different name.\nError code: {}",
        "name_needed": "This distribution has no default name. Use --name to choose one.\nError code: {}",
        "folder_taken": "The supplied install location is already in use.\nError code: {}",
        "no_such_image": "Invalid distribution name.\nTo get a list of valid distributions, use 'wsl.exe "
        "--list --online'.\nError code: {}",
        "not_stopped": "The operation could not be completed because the VHD is in use. To force WSL to "
        "stop use: wsl.exe --shutdown\nError code: {}",
        "sparse_off": "Sparse VHD support is disabled because of possible data corruption. To use it "
        "nevertheless: wsl.exe --manage <DistributionName> --set-sparse true --allow-unsafe\nError code: {}",
        "vhd_flag": "To import a VHD, use --vhd.",
        "not_elevated": "Administrator access is needed to mount a disk.\nError code: {}",
        "mounted": "The disk was successfully mounted as '/mnt/wsl/{}'.\nTo unmount and detach the disk, "
        "run 'wsl.exe --unmount {}'.",
        "online": "The following is a list of valid distributions that can be installed.\nInstall using "
        "'wsl.exe --install <Distro>'.\n",
        "none_running": "There are no running distributions.",
        "installed": "Distribution successfully installed. It can be launched via 'wsl.exe -d {}'",
        "launching": "Launching {}...",
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
        "invalid": "无效的命令行参数: {}\n请使用“wsl.exe --help”获取支持的参数列表。",
        "no_value": "命令行参数 {} 需要一个值。\n请使用“wsl.exe --help”获取支持的参数列表。",
        "usage": "用法: wsl.exe [参数] [选项...] [命令行]",
        "bad_argument": "参数错误。 \n错误代码: Wsl/E_INVALIDARG",
        "not_together": "这些参数不能一起使用。\n错误代码: {}",
        "distribution_set": "已设置分发名称。",
        "name_taken": "已存在具有所提供名称的分发。使用 --name 选择其他名称。\n错误代码: {}",
        "name_needed": "此分发没有默认名称。使用 --name 选择名称。\n错误代码: {}",
        "folder_taken": "提供的安装位置已在使用中。\n错误代码: {}",
        "no_such_image": "无效的分发名称。\n"
        "若要获取有效分发的列表，请使用“wsl.exe --list --online”。\n错误代码: {}",
        "not_stopped": "无法完成操作，因为 VHD 正在使用中。"
        "若要强制停止 WSL，请使用: wsl.exe --shutdown\n错误代码: {}",
        "sparse_off": "由于可能发生数据损坏，目前已禁用稀疏 VHD 支持。若要强制使用，请运行: wsl.exe --manage "
        "<DistributionName> --set-sparse true --allow-unsafe\n错误代码: {}",
        "vhd_flag": "若要导入 VHD，请使用 --vhd。",
        "not_elevated": "装载磁盘需要管理员访问权限。\n错误代码: {}",
        "mounted": "磁盘已成功装载为“/mnt/wsl/{}”。\n若要卸载和分离磁盘，请运行“wsl.exe --unmount {}”。",
        "online": "以下是可安装的有效分发的列表。\n使用“wsl.exe --install <分发>”安装。\n",
        "none_running": "没有正在运行的分发。",
        "installed": "已成功安装分发。可以通过“wsl.exe -d {}”启动它",
        "launching": "正在启动 {}...",
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

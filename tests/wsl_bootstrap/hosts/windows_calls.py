"""Run by a Windows Python under Wine: makes the calls into Windows and prints what came of them.

It writes to the registry, so it refuses a Windows that someone lives in.
"""

from __future__ import annotations

import ctypes
import json
import sys
import winreg  # type: ignore[import-not-found, unused-ignore]
from pathlib import Path, PureWindowsPath

from wsl_bootstrap.hosts import platform_windows
from wsl_bootstrap.hosts.process import LocalProcess, run_to_end

SYSTEM = PureWindowsPath("C:\\windows\\system32")


def _registry() -> None:
    """Register a distribution as WSL does, for a user who has none."""
    keys = {
        "{0}": {"DistributionName": "Played", "BasePath": "\\\\?\\C:\\d", "Flags": 15, "State": 1},
        "InstallStatus": {"": "VirtualMachinePlatform"},
    }
    for name, values in keys.items():
        with winreg.CreateKey(winreg.HKEY_CURRENT_USER, rf"{platform_windows._LXSS}\{name}") as key:
            for value, data in values.items():
                kind = winreg.REG_DWORD if isinstance(data, int) else winreg.REG_SZ
                winreg.SetValueEx(key, value, 0, kind, data)


def main() -> None:
    """Print one JSON object."""
    assert sys.platform == "win32"
    if not hasattr(ctypes.windll.ntdll, "wine_get_version"):
        sys.exit("only under Wine")
    windows = platform_windows.RealWindows()
    _registry()
    windows.resume_after_restart(["C:\\a b\\pythonw.exe", "-m", "runner_gui"])
    windows.keep_awake(True)
    windows.keep_awake(False)
    with winreg.OpenKey(winreg.HKEY_CURRENT_USER, platform_windows._RUN_ONCE) as key:
        run_once = winreg.QueryValueEx(key, "RwkvLoraRunner")[0]
    cmd = str(SYSTEM / "cmd.exe")
    done = run_to_end([cmd, "/c", "echo hello & exit 5"], timeout_s=30)
    sleeper = LocalProcess([cmd, "/c", "echo one& ping -n 60 127.0.0.1 >nul"])
    line = sleeper.read_line(30)
    sleeper.stop(grace_s=0.5)
    helper = "-m wsl_bootstrap.elevated format-c"
    print(  # noqa: T201
        json.dumps(
            {
                "snapshot": windows.snapshot().model_dump(mode="json"),
                "same_boot": windows.snapshot().boot_id == windows.snapshot().boot_id,
                "volumes": [
                    windows.volume(PureWindowsPath(path)).kind
                    for path in ("C:\\windows", "C:\\no\\such", "Q:\\x", "\\\\nas\\x")
                ],
                "services": [platform_windows._service_exists(name) for name in ("Winmgmt", "nobody")],
                "version": platform_windows._file_version(Path(SYSTEM / "kernel32.dll")),
                "no_version": platform_windows._file_version(Path("C:\\nobody.exe")),
                "elevated": platform_windows.shell_execute("runas", cmd, '/d /c "exit /b 3010"', 60),
                "refused": platform_windows.shell_execute("runas", sys.executable, helper, 60),
                "run_once": run_once,
                "run": [done.exit_code, done.stdout],
                "line": line,
                "stopped": sleeper.exit_code,
            }
        )
    )


if __name__ == "__main__":
    main()

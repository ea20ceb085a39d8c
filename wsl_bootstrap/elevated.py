"""The one thing that runs as administrator: a few fixed commands of Windows, chosen by name.

    python -I -m wsl_bootstrap.elevated enable-features install-wsl

It takes names from a list and no other text, asks nothing, writes no file of ours, and ends. What belongs to
a person (distributions, settings) is never made here: under another administrator's account it would be
made for the wrong one. The exit code is that of Windows: 0, 3010 for "after a restart", or the failure's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import PureWindowsPath

REBOOT_REQUIRED = 3010  # ERROR_SUCCESS_REBOOT_REQUIRED
CANCELLED = 1223  # ERROR_CANCELLED: the person said no
USAGE = 87  # ERROR_INVALID_PARAMETER
_TIMEOUT_S = 3600.0  # a slow disk and a pending update can make DISM work for a long time
_FEATURES = ("VirtualMachinePlatform", "Microsoft-Windows-Subsystem-Linux")


class Action(str, Enum):
    """What can be asked of it."""

    ENABLE_FEATURES = "enable-features"
    INSTALL_WSL = "install-wsl"
    UPDATE_WSL = "update-wsl"


def action_commands(action: Action, system_root: str = "C:\\Windows") -> tuple[tuple[str, ...], ...]:
    """Return the commands of an action, for the plan and for carrying it out alike."""
    system = PureWindowsPath(system_root, "System32")
    wsl, dism = str(system / "wsl.exe"), str(system / "dism.exe")
    if action is Action.ENABLE_FEATURES:
        return tuple(
            (dism, "/online", "/norestart", "/quiet", "/enable-feature", "/all", f"/featurename:{feature}")
            for feature in _FEATURES
        )
    if action is Action.INSTALL_WSL:
        return ((wsl, "--install", "--no-distribution"),)
    return ((wsl, "--update"),)


def carry_out(
    actions: Sequence[Action], run: Callable[[tuple[str, ...]], int], system_root: str = "C:\\Windows"
) -> int:
    """Run the commands and return one exit code for all.

    A failed feature ends the work with its code. WSL's package is fetched from the network, and when that
    fails after features were enabled the restart still has to come first, so the restart is what is told.
    """
    reboot = False
    for action in actions:
        for command in action_commands(action, system_root):
            code = run(command)
            if code == REBOOT_REQUIRED:
                reboot = True
            elif code != 0:
                return REBOOT_REQUIRED if reboot and action is not Action.ENABLE_FEATURES else code
    return REBOOT_REQUIRED if reboot else 0


def _run(command: tuple[str, ...]) -> int:
    # Output stays on the window's console: with its output redirected `wsl --install` has been seen to hang.
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S, check=False).returncode
    except FileNotFoundError:
        return 2  # ERROR_FILE_NOT_FOUND
    except subprocess.TimeoutExpired:
        return 1460  # ERROR_TIMEOUT


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the named actions; anything else is refused before any of them."""
    try:
        actions = [Action(name) for name in (sys.argv[1:] if argv is None else argv)]
    except ValueError:
        return USAGE
    if not actions:
        return USAGE
    return carry_out(actions, _run, os.environ.get("SYSTEMROOT", "C:\\Windows"))


if __name__ == "__main__":
    sys.exit(main())

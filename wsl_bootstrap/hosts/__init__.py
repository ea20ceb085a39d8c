"""The only door to the outside: what a computer is, and how commands run on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from wsl_bootstrap.hosts.base import Host

OWN_DISTRIBUTION = "RwkvLoraRunner"  # without blanks: `wsl -d` cannot quote


def this_host(distribution: str = OWN_DISTRIBUTION) -> Host:
    """Return the host for the system that we run on.

    `RUNNER_WINDOWS_FACTS` names a file that plays Windows, `RUNNER_WSL_EXE` a program that plays wsl.exe.

    Args:
        distribution: the one that trains, where the system is Windows.

    Raises:
        RuntimeError: there is none for it.
    """
    from wsl_bootstrap.hosts.windows_facts import FACTS_VARIABLE, ScriptedWindows

    script = os.environ.get(FACTS_VARIABLE)
    if script or sys.platform == "win32":
        from wsl_bootstrap.hosts.platform_windows import RealWindows
        from wsl_bootstrap.hosts.windows import WSL_VARIABLE, WindowsHost

        windows = ScriptedWindows(Path(script)) if script else RealWindows()
        return WindowsHost(windows, distribution, wsl=os.environ.get(WSL_VARIABLE) or None)
    if sys.platform == "linux":
        from wsl_bootstrap.hosts.linux import LinuxHost

        return LinuxHost()
    raise RuntimeError(f"there is no host for {sys.platform!r} yet")

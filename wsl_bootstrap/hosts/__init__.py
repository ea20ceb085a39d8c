"""The only door to the outside: what a computer is, and how commands run on it."""

from __future__ import annotations

import sys

from wsl_bootstrap.hosts.base import Host


def this_host() -> Host:
    """Return the host for the system that we run on.

    Raises:
        RuntimeError: there is none for it yet.
    """
    if sys.platform == "linux":
        from wsl_bootstrap.hosts.linux import LinuxHost

        return LinuxHost()
    raise RuntimeError(f"there is no host for {sys.platform!r} yet")

"""Our own distribution on Windows: where it lies, whether it was finished, what it takes, how it goes away.

A person's own distributions are never made, changed or removed here.
"""

from __future__ import annotations

import logging
from pathlib import Path, PureWindowsPath

from wsl_bootstrap.environment import APP_FOLDER
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.hosts.windows_facts import Distribution, WindowsSnapshot

LOG = logging.getLogger(__name__)
REMOVE_TIMEOUT_S = 120.0
# Beside the disk, written last: without it an installation was cut off, and nothing of the person's is in it.
_MARKER = "set-up-complete"
WSL_CONF = """\
[user]
default=root

[automount]
options=metadata

[interop]
appendWindowsPath=false

[boot]
systemd=false
"""


def is_own(host: WindowsHost) -> bool:
    """Return whether the distribution that trains is ours to make and to remove."""
    return host.distribution.lower() == OWN_DISTRIBUTION.lower()


def default_folder(found: WindowsSnapshot) -> PureWindowsPath:
    """Return where our distribution's disk goes unless the person chooses a folder."""
    return PureWindowsPath(found.local_app_data, APP_FOLDER, "wsl")


def marker(host: WindowsHost, folder: str | PureWindowsPath) -> Path:
    """Return the file that says that our distribution in this folder was finished."""
    return host.windows.local_path(PureWindowsPath(folder) / _MARKER)


def is_finished(host: WindowsHost, distribution: Distribution) -> bool:
    """Return whether our distribution was finished once."""
    return marker(host, distribution.base_path).is_file()


def disk_bytes(host: WindowsHost) -> int:
    """Return what removing our distribution would free, in bytes; 0 when there is none."""
    found = host.windows.snapshot().distribution(OWN_DISTRIBUTION)
    if found is None:
        return 0
    disk = host.windows.local_path(PureWindowsPath(found.base_path) / found.vhd_file)
    return disk.stat().st_size if disk.is_file() else 0


def remove(host: WindowsHost) -> int:
    """Remove our distribution with everything in it and return the bytes that this freed.

    Raises:
        WslFailedError, CommandTimeoutError: WSL did not remove it.
    """
    found = host.windows.snapshot().distribution(OWN_DISTRIBUTION)
    if found is None:
        return 0
    freed = disk_bytes(host)
    host.wsl.manage("--unregister", found.name, timeout_s=REMOVE_TIMEOUT_S)
    marker(host, found.base_path).unlink(missing_ok=True)
    LOG.info("distribution %s removed, %d bytes freed", found.name, freed)
    return freed

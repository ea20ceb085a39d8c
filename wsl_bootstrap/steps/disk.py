"""Whether there is room to work where the environment is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.step import Probe

# Room to work at all. What an installation takes besides is in its own plan.
MIN_GB = 1.0
ADVISED_GB = 10.0


@dataclass(frozen=True)
class DiskCheck:
    """Free space on the file system that holds `folder`."""

    folder: PurePath
    id: str = "disk"
    requires: tuple[str, ...] = ("distro",)

    def probe(self, host: Host) -> Probe:
        """Compare with what checkpoints and a merged model take."""
        have_gb = round(host.free_disk_bytes(self.folder) / 1e9, 1)
        value, path = f"{have_gb} GB", self.folder.as_posix()
        if have_gb < MIN_GB:
            return Probe.blocked(make_code("disk_full", path=path, have_gb=have_gb, need_gb=MIN_GB), value)
        if have_gb < ADVISED_GB:
            return Probe.satisfied(
                value, make_code("disk_low", path=path, have_gb=have_gb, need_gb=ADVISED_GB)
            )
        return Probe.satisfied(value)

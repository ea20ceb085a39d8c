"""Whether the Linux side has the memory that training takes."""

from __future__ import annotations

from dataclasses import dataclass

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.step import Probe

# torch and its optimizer idle at about 1 GB; a base model of 0.4B parameters is loaded through 2 GB more.
MIN_GB = 2.0
ADVISED_GB = 8.0


@dataclass(frozen=True)
class MemoryCheck:
    """Total memory, which unlike free memory is not another matter a minute later."""

    id: str = "memory"
    requires: tuple[str, ...] = ("distro",)

    def probe(self, host: Host) -> Probe:
        """Compare with what the smallest and an ordinary run take."""
        have_gb = round(host.facts().memory_total_bytes / 1e9, 1)
        value = f"{have_gb} GB"
        if have_gb < MIN_GB:
            return Probe.blocked(make_code("memory_too_small", have_gb=have_gb, need_gb=MIN_GB), value)
        if have_gb < ADVISED_GB:
            return Probe.satisfied(value, make_code("memory_low", have_gb=have_gb, need_gb=ADVISED_GB))
        return Probe.satisfied(value)

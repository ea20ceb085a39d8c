"""The steps that exist only because Windows cannot train by itself.

One probe serves all five until there is a Windows host to ask: what they say follows from the host's own
facts. Each then gets a module of its own, with a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.step import Probe


@dataclass(frozen=True)
class WindowsOnlyCheck:
    """A step of the road from Windows to Linux, met on whatever the host is."""

    id: str
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        """Linux does without it; Windows cannot be led through it yet."""
        facts = host.facts()
        if facts.os == "windows":
            return Probe.unsupported(make_code("windows_host_later"), facts.os_build)
        return Probe.not_needed(make_code("not_needed_on_linux"))


def windows_only_checks() -> tuple[WindowsOnlyCheck, ...]:
    """Return the five, each requiring the one before it."""
    ids = ("windows_version", "virtualization", "wsl_feature", "wsl_version", "distro")
    return tuple(
        WindowsOnlyCheck(step_id, requires=ids[place - 1 : place] if place else ())
        for place, step_id in enumerate(ids)
    )

"""Whether this Windows can run WSL 2 with a GPU, and whether we run as the right person in it."""

from __future__ import annotations

from dataclasses import dataclass

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.hosts.windows import WindowsHost, windows_name
from wsl_bootstrap.step import Probe

# The first build whose wsl.exe installs and updates itself; GPUs came to stable builds with 19044.
MIN_BUILD = 19041


@dataclass(frozen=True)
class WindowsVersionCheck:
    """Build, architecture, policy and account: what no set-up can change."""

    id: str = "windows_version"
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        """Compare; the account comes before anything that would be registered for it."""
        if not isinstance(host, WindowsHost):
            return Probe.not_needed(make_code("not_needed_on_linux"))
        found = host.windows.snapshot()
        value = f"{windows_name(found)} ({found.build}.{found.revision})"
        if found.machine == "x86":
            return Probe.unsupported(make_code("windows_32bit", machine=found.machine), value)
        if found.build < MIN_BUILD:
            return Probe.unsupported(make_code("windows_too_old", have=found.build, need=MIN_BUILD), value)
        if found.account == "system":
            return Probe.blocked(make_code("account_is_system"), value)
        if found.account == "other":
            return Probe.blocked(make_code("account_other"), value)
        if not found.wsl_allowed:
            return Probe.blocked(make_code("wsl_policy_off"), value)
        return Probe.satisfied(value, make_code("app_elevated") if found.elevated else None)

"""Whether the Linux side has the memory that training takes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import PureWindowsPath

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import Code, make_code
from wsl_bootstrap.files import write_whole
from wsl_bootstrap.hosts.base import Host, HostError
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.step import OnEvent, Outcome, OutputLine, Plan, Probe
from wsl_bootstrap.wslconfig import with_memory

# torch and its optimizer idle at about 1 GB; a base model of 0.4B parameters is loaded through 2 GB more.
MIN_GB = 2.0
ADVISED_GB = 8.0
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class MemoryStep:
    """Total memory, which unlike free memory is not another matter a minute later."""

    id: str = "memory"
    requires: tuple[str, ...] = ("distro",)

    def probe(self, host: Host) -> Probe:
        """Compare with what the smallest and an ordinary run take."""
        on_host = host.facts().memory_total_bytes
        inside = host.linux_memory_bytes() if isinstance(host, WindowsHost) else None
        have_gb = round((on_host if inside is None else inside) / 1e9, 1)
        value = f"{have_gb} GB"
        if have_gb < MIN_GB:
            if inside is not None and _limit_gb(on_host) * 2**30 > inside:
                path = str(_wslconfig(host)) if isinstance(host, WindowsHost) else ""
                code = make_code("vm_memory_small", have_gb=have_gb, need_gb=MIN_GB, path=path)
                return Probe.missing(code, value)
            return Probe.blocked(make_code("memory_too_small", have_gb=have_gb, need_gb=MIN_GB), value)
        if have_gb < ADVISED_GB:
            return Probe.satisfied(value, make_code("memory_low", have_gb=have_gb, need_gb=ADVISED_GB))
        return Probe.satisfied(value)

    def plan(self, host: Host, options: object) -> Plan:
        """Restart WSL with another limit, which the person has to know of: all distributions end."""
        # Also asked of a step that has to wait: a machine that is yet to be made has half the memory.
        if not isinstance(host, WindowsHost) or not host.has_distribution:
            return Plan(self.id)
        if (inside := host.linux_memory_bytes()) is None or inside >= MIN_GB * 1e9:
            return Plan(self.id)
        notice: Code = make_code("wsl_restart_stops", names=", ".join(_running(host)) or "-")
        return Plan(self.id, commands=(("wsl", "--shutdown"),), notices=(notice,))

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Write the limit, keeping a copy of the file and everything else in it, and restart WSL.

        Raises:
            HostError: WSL did not shut down.
        """
        assert isinstance(host, WindowsHost)
        path = host.windows.local_path(_wslconfig(host))
        try:
            # The line ends are kept: they are the person's, and read_text would change them.
            text = path.read_bytes().decode("utf-8-sig", "replace")
            shutil.copy2(path, path.with_name(path.name + ".bak"))
        except FileNotFoundError:
            text = ""
        limit_gb = _limit_gb(host.facts().memory_total_bytes)
        write_whole(path, with_memory(text, limit_gb))
        on_event(OutputLine(f"{_wslconfig(host)}: memory={limit_gb}GB"))
        host.wsl.manage("--shutdown", timeout_s=_TIMEOUT_S)
        return Outcome()


def _limit_gb(windows_bytes: int) -> int:
    """Return the limit that leaves Windows half of what there is, as WSL itself does."""
    return windows_bytes // 2 // 2**30


def _wslconfig(host: WindowsHost) -> PureWindowsPath:
    return PureWindowsPath(host.windows.snapshot().profile, ".wslconfig")


def _running(host: WindowsHost) -> list[str]:
    """Return the distributions that run now. Names only: that list has no word of any language in it."""
    try:
        names = host.wsl.call("--list", "--running", "--quiet", timeout_s=_TIMEOUT_S)
    except HostError:
        return []
    return (
        [line.strip() for line in names.stdout.splitlines() if line.strip()] if names.exit_code == 0 else []
    )

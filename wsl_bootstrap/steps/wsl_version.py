"""The package WSL itself: there, and new enough to install a distribution of our own."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import PureWindowsPath

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import Code, make_code
from wsl_bootstrap.elevated import REBOOT_REQUIRED, Action, action_commands
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.step import OnEvent, Outcome, OutputLine, Plan, Probe, StepError
from wsl_bootstrap.wsl_output import NO_KERNEL, NOT_INSTALLED

# The first with distributions as files, under a name and in a folder of choice.
MIN_VERSION = (2, 4, 4)
DOWNLOAD_BYTES, DISK_BYTES = 260 * 10**6, 700 * 10**6
ELEVATED_TIMEOUT_S = 3600.0
_STATUS_TIMEOUT_S = 30.0  # it has been seen to hang for a minute; then the package is not what we want anyway


@dataclass(frozen=True)
class Need:
    """What the package lacks: the code that says it, and the action that helps."""

    code: Code
    action: Action


def package_need(host: WindowsHost) -> Need | None:
    """Return what has to be done about the package, or None when it is right.

    Raises:
        HostError: wsl.exe does not answer.
    """
    have = host.windows.snapshot().wsl_package
    if have is not None:
        if version_of(have) >= MIN_VERSION:
            return None
        need = ".".join(map(str, MIN_VERSION))
        return Need(make_code("wsl_package_old", have=have, need=need), Action.UPDATE_WSL)
    answer = host.wsl.call("--status", timeout_s=_STATUS_TIMEOUT_S)
    if answer.exit_code & 0xFFFFFFFF == NOT_INSTALLED:
        return Need(make_code("wsl_package_missing"), Action.INSTALL_WSL)
    if answer.exit_code & 0xFFFFFFFF == NO_KERNEL:
        return Need(make_code("wsl_kernel_missing", command="wsl --status", token="0x1bc"), Action.UPDATE_WSL)
    return Need(make_code("wsl_inbox_old"), Action.UPDATE_WSL)


def version_of(text: str) -> tuple[int, ...]:
    """Return a version's numbers, for comparing."""
    return tuple(map(int, re.findall(r"\d+", text)))


@dataclass(frozen=True)
class WslVersionStep:
    """Installs or updates Microsoft's package, as administrator."""

    id: str = "wsl_version"
    requires: tuple[str, ...] = ("wsl_feature",)

    def probe(self, host: Host) -> Probe:
        """Read the package's version; without one, wsl.exe's exit code says what is there instead."""
        if not isinstance(host, WindowsHost):
            return Probe.not_needed(make_code("not_needed_on_linux"))
        found = host.windows.snapshot()
        if not found.wsl_exe:
            path = PureWindowsPath(found.system_root, "System32", "wsl.exe")
            return Probe.blocked(make_code("wsl_exe_missing", path=str(path)))
        need = package_need(host)
        return (
            Probe.missing(need.code, found.wsl_package or "")
            if need
            else Probe.satisfied(found.wsl_package or "")
        )

    def plan(self, host: Host, options: object) -> Plan:
        """One command as administrator; none while the step before it will have done it by then."""
        assert isinstance(host, WindowsHost)
        found = host.windows.snapshot()
        need = package_need(host)
        if need is None or not (found.has_vm_platform and found.has_wsl_feature):
            return Plan(self.id)
        return Plan(
            self.id,
            commands=action_commands(need.action, found.system_root),
            admin=True,
            download_bytes=DOWNLOAD_BYTES,
            disk_bytes=DISK_BYTES,
        )

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Have the helper run it.

        Raises:
            ElevationRefusedError: the person said no.
            StepError: it failed.
        """
        assert isinstance(host, WindowsHost)
        need = package_need(host)
        if need is None:
            return Outcome()
        code, reboot = run_elevated(host, (need.action,), on_event)
        if code:
            command = subprocess.list2cmdline(action_commands(need.action)[0])
            raise StepError(make_code("wsl_update_failed", command=command, exit_code=code), retryable=False)
        return Outcome(reboot=reboot)


def run_elevated(host: WindowsHost, actions: tuple[Action, ...], on_event: OnEvent) -> tuple[int, bool]:
    """Have actions carried out, saying each command; return the failure's exit code (0: none) and reboot.

    Raises:
        ElevationRefusedError, HostError: as in `WindowsHost.elevate_actions`.
    """
    root = host.windows.snapshot().system_root
    for action in actions:
        for command in action_commands(action, root):
            on_event(OutputLine("# " + subprocess.list2cmdline(command)))
    code = host.elevate_actions(actions, timeout_s=ELEVATED_TIMEOUT_S)
    return (0, True) if code == REBOOT_REQUIRED else (code, False)

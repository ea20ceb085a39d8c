"""The optional features of Windows that WSL 2 stands on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import PureWindowsPath

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.elevated import Action, action_commands
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.hosts.windows_facts import WindowsSnapshot
from wsl_bootstrap.step import OnEvent, Outcome, Plan, Probe, StepError
from wsl_bootstrap.steps.wsl_version import DISK_BYTES, DOWNLOAD_BYTES, package_need, run_elevated

_NOT_SUPPORTED = 50  # ERROR_NOT_SUPPORTED


@dataclass(frozen=True)
class WslFeatureStep:
    """Enables them, and in the same breath has WSL's package installed: one question for both.

    Args:
        resume: the command that opens this program again at the next log-on, to go on after the restart.
    """

    resume: tuple[str, ...] = ()
    id: str = "wsl_feature"
    requires: tuple[str, ...] = ("virtualization",)

    def probe(self, host: Host) -> Probe:
        """Ask for the services that wsl.exe itself asks for; no rights are needed to look."""
        if not isinstance(host, WindowsHost):
            return Probe.not_needed(make_code("not_needed_on_linux"))
        found = host.windows.snapshot()
        missing = _missing(found)
        if not missing:
            return Probe.satisfied()
        if found.components_pending:
            return Probe.reboot_pending(make_code("restart_needed"))
        return Probe.missing(make_code("wsl_feature_missing", features=", ".join(missing)))

    def plan(self, host: Host, options: object) -> Plan:
        """Everything that takes an administrator, and a restart."""
        assert isinstance(host, WindowsHost)
        actions, root = self._actions(host), host.windows.snapshot().system_root
        package = len(actions) > 1
        return Plan(
            self.id,
            commands=tuple(command for action in actions for command in action_commands(action, root)),
            admin=True,
            reboot=True,
            download_bytes=DOWNLOAD_BYTES if package else 0,
            disk_bytes=DISK_BYTES if package else 0,
        )

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Have the helper do it, and see to it that we are opened again after the restart.

        Raises:
            ElevationRefusedError: the person said no.
            StepError: Windows could not enable them.
        """
        assert isinstance(host, WindowsHost)
        cancel.raise_if_cancelled()
        code, reboot = run_elevated(host, self._actions(host), on_event)
        if code and _missing(host.windows.snapshot()):  # else it was the package's, which has its own step
            command = subprocess.list2cmdline(action_commands(Action.ENABLE_FEATURES)[0])
            if code == _NOT_SUPPORTED:
                raise StepError(make_code("feature_unsupported", command=command))
            raise StepError(make_code("feature_failed", command=command, exit_code=code))
        if reboot:
            host.windows.resume_after_restart(self.resume or _own_window())
        return Outcome(reboot=reboot)

    def _actions(self, host: WindowsHost) -> tuple[Action, ...]:
        need = package_need(host)
        return (Action.ENABLE_FEATURES, need.action) if need else (Action.ENABLE_FEATURES,)


def _missing(found: WindowsSnapshot) -> list[str]:
    return [
        *([] if found.has_vm_platform else ["VirtualMachinePlatform"]),
        *([] if found.has_wsl_feature else ["Microsoft-Windows-Subsystem-Linux"]),
    ]


def _own_window() -> tuple[str, ...]:
    """Return the command that opens the window without a console."""
    python = PureWindowsPath(sys.executable)
    return (str(python.with_name("pythonw.exe")), "-X", "utf8", "-m", "runner_gui")

"""Whether Windows can start a virtual machine."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.step import Probe

_START_HYPERVISOR = ("bcdedit", "/set", "hypervisorlaunchtype", "auto")


@dataclass(frozen=True)
class VirtualizationCheck:
    """What the firmware offers and whether a hypervisor runs; where both are silent, a launch will tell."""

    id: str = "virtualization"
    requires: tuple[str, ...] = ("windows_version",)

    def probe(self, host: Host) -> Probe:
        """Believe a running hypervisor first: under one, the firmware's flag reads as off."""
        if not isinstance(host, WindowsHost):
            return Probe.not_needed(make_code("not_needed_on_linux"))
        found = host.windows.snapshot()
        if found.hypervisor_present:
            return Probe.satisfied()
        if found.firmware_virtualization is False and found.hypervisor_present is False:
            return Probe.blocked(make_code("firmware_virtualization_off"))
        restart_ahead = found.components_pending or found.restart_pending
        if found.hypervisor_present is False and found.has_vm_platform and not restart_ahead:
            command = subprocess.list2cmdline(_START_HYPERVISOR)
            return Probe.blocked(make_code("hypervisor_not_started", command=command))
        return Probe.satisfied()

"""Which GPU trains. Having none is an answer too: the processor gives the same numbers, later."""

from __future__ import annotations

from dataclasses import dataclass

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import GpuFacts, Host
from wsl_bootstrap.step import Probe

# CUDA 12 runs on drivers from 525 on, whatever its minor version (NVIDIA's compatibility guarantee).
MIN_DRIVER = 525


@dataclass(frozen=True)
class GpuCheck:
    """The driver's own answer; it never stands in the way."""

    id: str = "gpu"
    requires: tuple[str, ...] = ("distro",)

    def probe(self, host: Host) -> Probe:
        """Name the GPUs, or say why the processor trains instead."""
        facts = host.gpu_facts()
        if not facts.gpus:
            if facts.driver_version:  # Windows has a driver, and it does not reach Linux
                code = make_code("gpu_not_in_wsl", driver=facts.driver_version, detail=facts.problem)
                return Probe.satisfied(facts.driver_version, code)
            if facts.problem:
                return Probe.satisfied(code=make_code("gpu_driver_silent", detail=facts.problem))
            return Probe.satisfied(code=make_code("gpu_none"))
        first = facts.gpus[0]
        count = f"{len(facts.gpus)} x " if len(facts.gpus) > 1 else ""
        value = f"{count}{first.name}, {first.memory_bytes / 2**30:.0f} GiB, {facts.driver_version}"
        if driver_major(facts) < MIN_DRIVER:
            code = make_code("gpu_driver_old", have=facts.driver_version, need=MIN_DRIVER)
            return Probe.satisfied(value, code)
        return Probe.satisfied(value)


def driver_major(facts: GpuFacts) -> int:
    """Return the driver's main version, 0 when it is not told or not a number."""
    major = facts.driver_version.split(".")[0]
    return int(major) if major.isdigit() else 0


def usable(facts: GpuFacts) -> bool:
    """Return whether there is a GPU whose driver can run a build of torch that we install."""
    return bool(facts.gpus) and driver_major(facts) >= MIN_DRIVER

"""The steps that only look: Windows, memory, disk, GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsl_bootstrap.hosts.base import Gpu, GpuFacts
from wsl_bootstrap.steps.disk import DiskCheck
from wsl_bootstrap.steps.gpu import GpuCheck
from wsl_bootstrap.steps.memory import MemoryCheck
from wsl_bootstrap.steps.windows_only import windows_only_checks
from wsl_bootstrap.transitions import Event

WINDOWS_STEPS = ("windows_version", "virtualization", "wsl_feature", "wsl_version", "distro")


def test_the_windows_steps_are_decided_by_the_host(host: Any, fakes: ModuleType) -> None:
    checks = windows_only_checks()
    assert tuple(check.id for check in checks) == WINDOWS_STEPS
    assert [check.requires for check in checks] == [(), *((step,) for step in WINDOWS_STEPS[:-1])]
    for facts, event, code_id in (
        (fakes.LINUX, Event.FOUND_NOT_NEEDED, "not_needed_on_linux"),
        (fakes.WINDOWS, Event.FOUND_UNSUPPORTED, "windows_host_later"),
    ):
        host.host_facts = facts
        for check in checks:
            probe = check.probe(host)
            assert probe.code is not None
            assert (probe.event, probe.code.id) == (event, code_id)


@pytest.mark.parametrize(
    ("total_bytes", "event", "code_id"),
    [
        (1_900_000_000, Event.FOUND_BLOCKED, "memory_too_small"),
        (2_000_000_000, Event.FOUND_SATISFIED, "memory_low"),
        (7_900_000_000, Event.FOUND_SATISFIED, "memory_low"),
        (8_000_000_000, Event.FOUND_SATISFIED, None),
    ],
)
def test_memory(host: Any, total_bytes: int, event: Event, code_id: str | None) -> None:
    host.host_facts = replace(host.host_facts, memory_total_bytes=total_bytes)
    probe = MemoryCheck().probe(host)
    assert (probe.event, probe.code and probe.code.id) == (event, code_id)
    assert probe.value == f"{total_bytes / 1e9:.1f} GB"


@pytest.mark.parametrize(
    ("free_bytes", "event", "code_id"),
    [
        (900_000_000, Event.FOUND_BLOCKED, "disk_full"),
        (1_000_000_000, Event.FOUND_SATISFIED, "disk_low"),
        (9_900_000_000, Event.FOUND_SATISFIED, "disk_low"),
        (10_000_000_000, Event.FOUND_SATISFIED, None),
    ],
)
def test_disk(host: Any, free_bytes: int, event: Event, code_id: str | None) -> None:
    host.free_bytes = free_bytes
    probe = DiskCheck(Path("/env")).probe(host)
    assert (probe.event, probe.code and probe.code.id) == (event, code_id)
    if probe.code:
        assert probe.code.args["path"] == "/env"


H100 = Gpu("NVIDIA H100", 80 * 2**30, (9, 0))


@pytest.mark.parametrize(
    ("facts", "value", "code_id"),
    [
        (GpuFacts(), "", "gpu_none"),
        (GpuFacts(problem="fell off the bus"), "", "gpu_driver_silent"),
        (GpuFacts((H100,), "470.10"), "NVIDIA H100, 80 GiB, 470.10", "gpu_driver_old"),
        (GpuFacts((H100,), "unknown"), "NVIDIA H100, 80 GiB, unknown", "gpu_driver_old"),
        (GpuFacts((H100,), "570.86.15"), "NVIDIA H100, 80 GiB, 570.86.15", None),
        (GpuFacts((H100, H100), "570.86"), "2 x NVIDIA H100, 80 GiB, 570.86", None),
    ],
)
def test_no_gpu_stands_in_the_way(host: Any, facts: GpuFacts, value: str, code_id: str | None) -> None:
    host.gpus = facts
    probe = GpuCheck().probe(host)
    assert (probe.event, probe.value) == (Event.FOUND_SATISFIED, value)
    assert (probe.code and probe.code.id) == code_id

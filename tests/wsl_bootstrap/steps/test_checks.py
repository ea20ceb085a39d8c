"""The steps that only look, on Linux: Windows, memory, disk, GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsl_bootstrap.codes import make_code
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.hosts.base import Gpu, GpuFacts
from wsl_bootstrap.step import Probe
from wsl_bootstrap.steps import setup_steps
from wsl_bootstrap.steps.disk import DiskCheck
from wsl_bootstrap.steps.gpu import GpuCheck
from wsl_bootstrap.steps.memory import MemoryStep
from wsl_bootstrap.transitions import Event

WINDOWS_STEPS = ("windows_version", "virtualization", "wsl_feature", "wsl_version", "distro")


def test_linux_does_without_the_windows_steps(host: Any, tmp_path: Path) -> None:
    steps = setup_steps(Environment(tmp_path))
    assert tuple(step.id for step in steps[:5]) == WINDOWS_STEPS
    assert [step.requires for step in steps[:5]] == [(), *((step,) for step in WINDOWS_STEPS[:-1])]
    for step in steps:
        if step.id in (*WINDOWS_STEPS, "network"):
            assert step.probe(host) == Probe.not_needed(make_code("not_needed_on_linux"))
    assert host.commands == []


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
    probe = MemoryStep().probe(host)
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

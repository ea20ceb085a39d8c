from __future__ import annotations

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from runner_gui.services.system_monitor import GpuReading, Reading, SystemMonitor, parse_gpu


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0, RTX 4070, 37, 9318, 12282\n", (0, GpuReading("RTX 4070", 37.0, 9318 * 2**20, 12282 * 2**20))),
        ("1, Odd, name, 5, 1, 2", (1, GpuReading("Odd, name", 5.0, 2**20, 2 * 2**20))),
        ("0, Tesla, [N/A], 1, 2", (0, GpuReading("Tesla", None, 2**20, 2 * 2**20))),
        ("NVIDIA-SMI has failed because it could not talk to the driver", None),
        ("0, , 5, 1, 2", None),
        ("x, A, 5, 1, 2", None),
        ("0, A, 5, [GPU is lost], 2", None),
        ("", None),
        (",,,,", None),
    ],
)  # fmt: skip
def test_a_line_of_nvidia_smi(line: str, expected: tuple[int, GpuReading] | None) -> None:
    assert parse_gpu(line) == expected


def tool(tmp_path: Path, code: str) -> str:
    path = tmp_path / "nvidia-smi"
    path.write_text(f"#!/usr/bin/env python3\nimport sys, time\n{code}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def next_reading(qtbot: QtBot, monitor: SystemMonitor) -> Reading:
    with qtbot.waitSignal(monitor.read, timeout=20_000) as told:
        pass
    return told.args[0]


def test_the_fullest_gpu_is_shown_and_one_process_does_for_all_answers(qtbot: QtBot, tmp_path: Path) -> None:
    code = """
assert sys.argv[3].startswith("--loop=")
print("0, Small, 1, 10, 100\\n1, Big, 99, 90, 100", flush=True)
time.sleep(60)
"""
    monitor = SystemMonitor(tool=tool(tmp_path, code))
    monitor.start()
    monitor.start()
    qtbot.waitUntil(lambda: len(monitor._gpus) == 2, timeout=20_000)
    reading = next_reading(qtbot, monitor)
    assert reading.gpu is not None
    assert (reading.gpu.name, reading.gpu.percent) == ("Big", 99.0)
    assert 0 < reading.memory_used_bytes <= reading.memory_total_bytes
    process = monitor._process
    assert process is not None
    monitor.stop()
    assert process.processId() == 0


def test_a_driver_that_goes_away_takes_its_numbers_along(qtbot: QtBot, tmp_path: Path) -> None:
    monitor = SystemMonitor(tool=tool(tmp_path, 'print("0, A, 1, 10, 100", flush=True)'))
    monitor.start()
    qtbot.waitUntil(lambda: monitor._process.state().value == 0, timeout=20_000)  # type: ignore[union-attr]
    assert next_reading(qtbot, monitor).gpu is None
    monitor.stop()


def test_a_tool_that_is_not_there_costs_only_the_gpu(qtbot: QtBot, tmp_path: Path) -> None:
    monitor = SystemMonitor(tool=str(tmp_path / "none"))
    monitor.start()
    assert next_reading(qtbot, monitor).gpu is None
    monitor.stop()

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.training import device, probe
from trainer.training.probe import bf16_speedup


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path))
    return tmp_path / "probe.json"


def test_measured_once_and_remembered(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bf16_speedup()
    assert 0.001 < found < 100
    assert json.loads(note.read_text())["bf16_speedup"] == found
    monkeypatch.setattr(probe, "_measured", lambda: pytest.fail("measured again"))
    assert bf16_speedup() == found


@pytest.mark.parametrize("text", ["", "[]", "{", '{"key": 1}', '{"key": null, "bf16_speedup": 5}'])
def test_a_note_that_is_damaged_or_of_another_machine_is_measured_anew(
    note: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_measured", lambda: 0.25)
    note.write_text(text)
    assert bf16_speedup() == 0.25
    assert json.loads(note.read_text())["bf16_speedup"] == 0.25


def test_a_folder_that_takes_no_files_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "file"))
    assert bf16_speedup() > 0


def test_a_run_in_bf16_learns_as_in_fp32(
    run_train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "bf16_speedup", lambda: 2.0)
    losses = {precision: run_train(precision, precision=precision).losses for precision in ("fp32", "bf16")}
    assert losses["bf16"] != losses["fp32"]
    for step, loss in losses["fp32"].items():
        assert losses["bf16"][step] == pytest.approx(loss, rel=2e-2)
    assert torch.get_default_dtype() == torch.float32

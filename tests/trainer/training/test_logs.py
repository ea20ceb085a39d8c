"""Logs for other programs, of real runs: what they say is what the events say, also of a run that goes on."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.errors import ParameterError
from trainer.contract.params import checked
from trainer.training.logs import COLUMNS


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        assert tuple(reader.fieldnames or ()) == COLUMNS
        return list(reader)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value of TensorBoard's records (length, checksum, protocol buffer, checksum)."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()):
        block, at = path.read_bytes(), 0
        while at < len(block):
            (size,) = struct.unpack_from("<Q", block, at)
            event = Event.FromString(block[at + 12 : at + 12 + size])
            at += size + 16
            if event.session_log.status == event.session_log.START:  # later steps of earlier files are void
                found = {tag: {s: v for s, v in of.items() if s < event.step} for tag, of in found.items()}
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_a_row_for_each_step_and_evaluation(run_train: Callable[..., Any]) -> None:
    ran = run_train(val_fraction=0.2)
    found = rows(ran.folder.metrics_csv)
    steps, evals = ran.of("step"), ran.of("eval")
    assert [int(row["step"]) for row in found if row["loss"]] == [event["step"] for event in steps]
    for name in ("epoch", "tokens", "loss", "lr", "grad_norm", "tok_s", "step_s", "mem_bytes"):
        assert [float(row[name]) for row in found if row["loss"]] == [event[name] for event in steps]
    validated = {int(row["step"]): float(row["val_loss"]) for row in found if row["val_loss"]}
    assert validated == {event["step"]: event["loss"] for event in evals}
    assert len(found) == len(steps) + len(evals)
    assert not ran.folder.tensorboard.exists()


def test_tensorboard_shows_the_same_numbers(run_train: Callable[..., Any]) -> None:
    ran = run_train(log_formats=("tensorboard",), sample_prompts=("hello",), sample_tokens=2)
    assert not ran.folder.metrics_csv.exists()
    found = scalars(ran.folder.tensorboard)
    for name in ("loss", "lr", "grad_norm"):
        assert found[name] == pytest.approx(
            {event["step"]: event[name] for event in ran.of("step")}, rel=1e-6
        )
    assert any("hello" in tag for tag in found)


def test_what_is_done_again_is_written_anew(run_train: Callable[..., Any]) -> None:
    log_formats = ("csv", "tensorboard")
    whole = run_train("whole", log_formats=log_formats)
    total = whole.step
    run_train("cut", log_formats=log_formats, at={2: {"cmd": "stop", "save": True}})
    path = whole.folder.path.with_name("cut")
    with open(path / "metrics.csv", "a", encoding="utf-8") as file:
        file.write("3,0,1,9.9,1,1,1,1,1,,\n4,0,2,9")  # of steps behind the checkpoint, and half a row
    cut = run_train("cut", resume=True)
    assert [int(row["step"]) for row in rows(cut.folder.metrics_csv)] == list(range(1, total + 1))
    assert [row["loss"] for row in rows(cut.folder.metrics_csv)] == [
        row["loss"] for row in rows(whole.folder.metrics_csv)
    ]
    assert scalars(cut.folder.tensorboard)["loss"] == scalars(whole.folder.tensorboard)["loss"]


def test_no_logs_and_unknown_ones() -> None:
    assert checked({"base_model": "b", "data": "d", "log_formats": ()}).log_formats == ()
    with pytest.raises(ParameterError):
        checked({"base_model": "b", "data": "d", "log_formats": ("wandb",)})

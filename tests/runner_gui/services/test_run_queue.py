"""Runs one after the other: the order of things on a played pipeline, and once on the real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PySide6.QtCore import QObject, Signal
from pytestqt.qtbot import QtBot

from runner_gui.model.run_store import RunStore
from runner_gui.model.workspace import Workspace
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.run_queue import RunQueue
from trainer.contract.errors import Problem
from trainer.contract.params import TrainParams, checked
from trainer.contract.run_folder import RunFolder

SECONDS = 120_000


def params(**changed: Any) -> TrainParams:
    return checked({"base_model": "/m.pth", "data": "/d.jsonl", **changed})


class Played(QObject):
    """A pipeline whose ends the test decides."""

    run_started = Signal(str)
    run_ended = Signal(str)
    failed = Signal(object, str)
    busy_changed = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.is_busy = self.is_training = False
        self.run_folder: RunFolder | None = None
        self.started: list[TrainParams] = []

    def start(self, given: TrainParams) -> None:
        self.started.append(given)
        self.set_busy(True)

    def set_busy(self, busy: bool) -> None:
        self.is_busy = busy
        self.busy_changed.emit(busy)

    def begin(self, folder: str) -> None:
        self.run_folder, self.is_training = RunFolder(folder), True
        self.run_started.emit(folder)

    def end(self, status: str) -> None:
        self.is_training = False
        self.run_ended.emit(status)
        self.set_busy(False)

    def fail(self, code: str) -> None:
        self.set_busy(False)
        self.failed.emit(Problem(code, {"path": "/m.pth"}), "")


@pytest.fixture
def played(qapp: QObject) -> Played:
    return Played()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.json"


@pytest.fixture
def queue(played: Played, path: Path) -> Iterator[RunQueue]:
    made = RunQueue(cast(Pipeline, played), path)
    yield made
    made.close()


def again(path: Path) -> tuple[Played, RunQueue]:
    """What the next window finds."""
    played = Played()
    return played, RunQueue(cast(Pipeline, played), path)


def test_nothing_starts_until_it_is_told_to_and_then_one_by_one(
    qtbot: QtBot, played: Played, queue: RunQueue
) -> None:
    for seed in (1, 2, 3):
        queue.add(params(seed=seed))
    qtbot.wait(20)
    assert played.started == []
    queue.set_active(True)
    for seed in (1, 2, 3):
        qtbot.waitUntil(lambda n=seed: len(played.started) == n)
        assert queue.waiting == 3 - seed
        played.begin(f"/runs/{seed}")
        played.end("completed")
    qtbot.waitUntil(lambda: queue.entries == [])
    assert [given.seed for given in played.started] == [1, 2, 3]


def test_one_that_never_began_stays_with_its_problem_and_the_next_has_its_turn(
    qtbot: QtBot, played: Played, queue: RunQueue, path: Path
) -> None:
    queue.add(params(seed=1))
    queue.add(params(seed=2))
    queue.set_active(True)
    qtbot.waitUntil(lambda: len(played.started) == 1)
    played.fail("model_not_found")
    qtbot.waitUntil(lambda: len(played.started) == 2)
    problem = queue.entries[0].what_failed()
    assert isinstance(problem, Problem)
    assert (problem.code, problem.args) == ("model_not_found", {"path": "/m.pth"})
    _, later = again(path)
    assert later.entries[0].what_failed() == problem


def test_a_run_that_failed_or_was_killed_does_not_hold_up_the_others(
    qtbot: QtBot, played: Played, queue: RunQueue
) -> None:
    for seed in (1, 2, 3):
        queue.add(params(seed=seed))
    queue.set_active(True)
    for number, status in enumerate(("failed", "killed"), 1):
        qtbot.waitUntil(lambda n=number: len(played.started) == n)
        played.begin(f"/runs/{number}")
        played.end(status)
    qtbot.waitUntil(lambda: len(played.started) == 3)


def test_whoever_stops_a_run_stops_the_queue(qtbot: QtBot, played: Played, queue: RunQueue) -> None:
    queue.add(params(seed=1))
    queue.add(params(seed=2))
    queue.set_active(True)
    qtbot.waitUntil(lambda: len(played.started) == 1)
    played.begin("/runs/1")
    played.end("stopped")
    qtbot.waitUntil(lambda: not queue.active)
    assert queue.waiting == 1


def test_what_was_called_off_before_it_began_waits_again(
    qtbot: QtBot, played: Played, queue: RunQueue
) -> None:
    queue.add(params())
    queue.set_active(True)
    qtbot.waitUntil(lambda: played.is_busy)
    played.set_busy(False)
    qtbot.waitUntil(lambda: not queue.active)
    assert queue.waiting == 1


def test_a_run_by_hand_is_waited_for(qtbot: QtBot, played: Played, queue: RunQueue) -> None:
    played.set_busy(True)
    queue.add(params())
    queue.set_active(True)
    qtbot.wait(20)
    assert played.started == []
    played.end("completed")
    qtbot.waitUntil(lambda: len(played.started) == 1)


def test_the_next_window_goes_on(qtbot: QtBot, played: Played, queue: RunQueue, path: Path) -> None:
    for seed in (1, 2):
        queue.add(params(seed=seed))
    queue.set_active(True)
    qtbot.waitUntil(lambda: played.is_busy)
    played.begin("/runs/1")
    queue.close()
    # It attaches to the run that went on: that one is not started again.
    later, other = again(path)
    later.is_busy = True
    later.begin("/runs/1")
    other.load()
    assert other.current is not None
    assert other.waiting == 1
    later.end("completed")
    qtbot.waitUntil(lambda: [given.seed for given in later.started] == [2])
    other.close()


def test_a_run_that_is_over_when_the_next_window_comes_is_out_of_the_queue(
    qtbot: QtBot, played: Played, queue: RunQueue, path: Path
) -> None:
    for seed in (1, 2):
        queue.add(params(seed=seed))
    queue.set_active(True)
    qtbot.waitUntil(lambda: played.is_busy)
    played.begin("/runs/1")
    queue.close()
    later, other = again(path)
    other.load()
    qtbot.waitUntil(lambda: [given.seed for given in later.started] == [2])
    other.close()


def test_order_and_removal(played: Played, queue: RunQueue, path: Path) -> None:
    for seed in (1, 2, 3):
        queue.add(params(seed=seed))
    first, _, third = (entry.id for entry in queue.entries)
    queue.move(third, -1)
    queue.move(first, -1)
    queue.move(first, 1)
    queue.remove(third)
    queue.move("nobody", 1)
    queue.remove("nobody")
    assert [entry.params["seed"] for entry in queue.entries] == [1, 2]
    assert [entry.params["seed"] for entry in again(path)[1].entries] == [1, 2]


@pytest.mark.parametrize("stored", ["", "[]", '{"version": 9}', '{"entries": [3]}', "[" * 50_000])
def test_a_broken_file_costs_only_the_queue(path: Path, played: Played, stored: str) -> None:
    path.write_text(stored, encoding="utf-8")
    assert RunQueue(cast(Pipeline, played), path).entries == []
    assert path.with_name("queue.json.unreadable").exists()


def test_parameters_of_another_version_are_told(
    qtbot: QtBot, played: Played, path: Path, queue: RunQueue
) -> None:
    entry = {"id": "a", "params": {"base_model": "/m", "data": "/d", "warp": 9}}
    path.write_text(json.dumps({"version": 1, "active": True, "entries": [entry]}), encoding="utf-8")
    _, later = again(path)
    later.load()
    qtbot.waitUntil(lambda: later.entries[0].what_failed() is not None)
    assert later.entries[0].what_failed().code == "param_unknown"  # type: ignore[union-attr]
    later.close()


def test_two_runs_by_the_real_trainer(
    qtbot: QtBot, tmp_path: Path, make_checkpoint: Callable[..., Any]
) -> None:
    model, data = tmp_path / "tiny 模型.pth", tmp_path / "d.jsonl"
    make_checkpoint(model, n_layer=1, n_embd=64, vocab=65536, dtype="bf16")
    data.write_text(json.dumps({"text": "User: a\n\nAssistant: b"}) + "\n", encoding="utf-8")
    quick = {
        "data": str(data), "ctx_len": 32, "epoch_steps": 2, "epoch_count": 1, "accumulate_grad_batches": 1,
        "lora_r": 4, "precision": "fp32", "device": "cpu", "grad_cp": False,
    }  # fmt: skip
    workspace = Workspace(tmp_path / "work")
    pipeline = Pipeline(workspace)
    queue = RunQueue(pipeline, workspace.queue_file)
    for seed, base in ((1, model), (2, tmp_path / "none.pth"), (3, model)):
        queue.add(params(**quick, base_model=str(base), seed=seed))
    queue.set_active(True)
    with qtbot.waitSignal(queue.emptied, timeout=SECONDS):
        pass
    runs = sorted(RunStore(workspace.runs).runs(), key=lambda info: info.record.created_ts)
    assert [(info.record.params["seed"], info.status) for info in runs] == [
        (1, "completed"),
        (3, "completed"),
    ]
    assert [entry.params["seed"] for entry in queue.entries] == [2]
    assert queue.entries[0].what_failed() is not None
    queue.close()
    pipeline.close()

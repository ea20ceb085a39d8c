"""The pipeline with the real trainer on a tiny model: what the primary button does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from runner_gui.model.run_store import RunStore, best_checkpoint, last_checkpoint
from runner_gui.model.series import RunSeries
from runner_gui.model.workspace import Workspace
from runner_gui.services.pipeline import Pipeline
from trainer.contract.events import Event
from trainer.contract.params import TrainParams, checked
from trainer.contract.run_folder import RunFolder

SECONDS = 120_000


class Heard:
    """Everything that a pipeline tells."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.runs: list[str] = []
        self.events: list[Event] = []
        self.ended: list[str] = []
        self.failed: list[tuple[Any, str]] = []
        self.warned: list[Any] = []
        self.merged: list[str] = []
        self.consents: list[Any] = []
        self.busy: list[bool] = []
        self.states: list[tuple[str, str]] = []
        self.pipeline = pipeline
        pipeline.run_started.connect(self.runs.append)
        pipeline.event_received.connect(self.events.append)
        pipeline.run_ended.connect(self.ended.append)
        pipeline.failed.connect(lambda problem, details: self.failed.append((problem, details)))
        pipeline.warned.connect(self.warned.append)
        pipeline.merged.connect(self.merged.append)
        pipeline.consent_needed.connect(self.consents.append)
        pipeline.busy_changed.connect(self.busy.append)
        pipeline.steps_changed.connect(self._on_steps)

    def _on_steps(self) -> None:
        for view in self.pipeline.steps:
            if (view.id, view.state) not in self.states:
                self.states.append((view.id, view.state))

    def state(self, step_id: str) -> str:
        return next(view.state for view in self.pipeline.steps if view.id == step_id)

    def last_step(self) -> int:
        return max((e["step"] for e in self.events if e.t == "step"), default=0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "工作 it's $(touch gone)")


@pytest.fixture
def pipeline(qtbot: QtBot, workspace: Workspace) -> Iterator[Pipeline]:
    pipeline = Pipeline(workspace)
    yield pipeline
    if pipeline.is_training:
        pipeline.stop(save=False)
        qtbot.waitUntil(lambda: not pipeline.is_training, timeout=SECONDS)
    pipeline.close()


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny 模型.pth"
    make_checkpoint(path, n_layer=2, n_embd=64, vocab=65536, dtype="bf16")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data 数据.jsonl"
    lines = [json.dumps({"text": f"User: {n}\n\nAssistant: Aye, {n}, matey."}) for n in range(40)]
    path.write_text("\n".join([*lines[:3], "{broken", *lines[3:]]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def params(base_model: Path, data: Path) -> Callable[..., TrainParams]:
    def make(**changed: Any) -> TrainParams:
        values = {
            "base_model": str(base_model),
            "data": str(data),
            "ctx_len": 32,
            "epoch_steps": 4,
            "epoch_count": 2,
            "micro_bsz": 1,
            "accumulate_grad_batches": 1,
            "lora_r": 4,
            "lora_alpha": 8,
            "precision": "fp32",
            "device": "cpu",
            "grad_cp": False,
        }
        return checked({**values, **changed})

    return make


def test_one_press_trains_and_the_next_ones_merge_and_use(
    qtbot: QtBot, pipeline: Pipeline, workspace: Workspace, params: Callable[..., TrainParams]
) -> None:
    heard = Heard(pipeline)
    pipeline.start(params(), "first run")
    assert pipeline.is_busy
    qtbot.waitUntil(lambda: bool(heard.ended or heard.failed), timeout=SECONDS)
    assert heard.failed == []
    assert heard.ended == ["completed"]
    qtbot.waitUntil(lambda: not pipeline.is_busy, timeout=SECONDS)
    assert heard.busy == [True, False]
    assert heard.consents == []
    assert [p.code for p in heard.warned] == ["data_line_skipped"]
    assert heard.state("wsl") == "not_needed"
    assert [heard.state(s) for s in ("convert", "environment", "train")] == ["satisfied"] * 3
    order = [step for step, state in heard.states if state == "applying"]
    assert [s for s in order if s != "environment"] == ["convert", "train"]

    run = RunFolder(heard.runs[0])
    assert run.path.parent == workspace.runs
    assert run.run_id.endswith("-first-run")
    series = RunSeries.from_file(run.events)
    assert series.status == "completed"
    assert series.steps.tolist() == list(range(1, 9))
    live = RunSeries()
    live.extend(heard.events)
    assert live.loss.tolist() == series.loss.tolist()

    checkpoint = best_checkpoint(run)
    assert checkpoint is not None
    target = pipeline.merge_target(checkpoint, run)
    pipeline.merge(checkpoint, run)
    qtbot.waitUntil(lambda: bool(heard.merged or heard.failed), timeout=SECONDS)
    assert heard.failed == []
    assert heard.merged == [str(target)]
    assert target.name == f"tiny 模型-LoRA-{run.run_id}-8.pth"
    assert (
        target.stat().st_size == Path(params().base_model).stat().st_size or target.stat().st_size > 8_000_000
    )
    assert heard.state("merge") == "satisfied"
    assert pipeline.merge_target(checkpoint, run) != target

    with qtbot.waitSignal(pipeline.use_ready) as used:
        pipeline.use(target)
    assert used.args == [str(target)]
    assert list(workspace.root.parent.rglob("gone")) == []


def test_stop_with_save_then_resume_to_the_end(
    qtbot: QtBot, pipeline: Pipeline, workspace: Workspace, params: Callable[..., TrainParams]
) -> None:
    heard = Heard(pipeline)
    pipeline.start(params(epoch_steps=10, epoch_count=30))
    qtbot.waitUntil(lambda: heard.last_step() >= 3 or bool(heard.failed), timeout=SECONDS)
    assert heard.failed == []
    rungs: list[str] = []
    pipeline.stop_rung_reached.connect(rungs.append)
    pipeline.stop(save=True)
    assert pipeline.is_stopping
    qtbot.waitUntil(lambda: bool(heard.ended), timeout=SECONDS)
    assert heard.ended == ["stopped"]
    assert rungs == ["asked", "acknowledged"]
    qtbot.waitUntil(lambda: not pipeline.is_busy, timeout=SECONDS)
    assert heard.failed == []
    run = RunFolder(heard.runs[0])
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None
    stopped_at = checkpoint.meta.step
    assert stopped_at == heard.last_step()

    pipeline.resume(run)
    qtbot.waitUntil(lambda: heard.last_step() > stopped_at or bool(heard.failed), timeout=SECONDS)
    assert heard.failed == []
    assert heard.runs == [str(run.path)] * 2
    series = RunSeries.from_file(run.events)
    assert series.steps.tolist() == list(range(1, len(series) + 1))


def test_a_run_outlives_its_window_and_the_next_one_attaches(
    qtbot: QtBot, pipeline: Pipeline, workspace: Workspace, params: Callable[..., TrainParams]
) -> None:
    first = Pipeline(workspace)
    heard = Heard(first)
    first.start(params(epoch_steps=10, epoch_count=1000))
    qtbot.waitUntil(lambda: heard.last_step() >= 2 or bool(heard.failed), timeout=SECONDS)
    assert heard.failed == []
    first.close()

    store = RunStore(workspace.runs)
    found = store.running()
    assert [info.folder.path for info in found] == [Path(heard.runs[0])]
    again = Heard(pipeline)
    pipeline.attach(found[0].folder)
    assert pipeline.is_training
    qtbot.waitUntil(lambda: again.last_step() > heard.last_step(), timeout=SECONDS)
    pipeline.stop(save=True)
    qtbot.waitUntil(lambda: bool(again.ended), timeout=SECONDS)
    assert again.ended == ["stopped"]
    assert again.failed == []
    assert heard.ended == []
    assert store.get(found[0].folder.path).status == "stopped"  # type: ignore[union-attr]


def test_a_killed_trainer_is_told_and_the_run_can_go_on(
    qtbot: QtBot, pipeline: Pipeline, workspace: Workspace, params: Callable[..., TrainParams]
) -> None:
    heard = Heard(pipeline)
    pipeline.start(params(epoch_steps=4, epoch_count=1000))
    qtbot.waitUntil(lambda: heard.last_step() >= 6 or bool(heard.failed), timeout=SECONDS)
    assert heard.failed == []
    os.kill(next(e["pid"] for e in heard.events if e.t == "hello"), signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(heard.failed), timeout=SECONDS)
    assert heard.ended == ["killed"]
    assert [problem.code for problem, _ in heard.failed] == ["killed"]
    assert heard.failed[0][0].args == {"signal": "SIGKILL"}
    assert [info.folder.path for info in RunStore(workspace.runs).interrupted()] == [Path(heard.runs[0])]


@pytest.mark.parametrize(("broken", "code"), [("data", "data_not_found"), ("base_model", "model_not_found")])
def test_what_is_not_there_is_told_before_any_run(
    qtbot: QtBot,
    pipeline: Pipeline,
    workspace: Workspace,
    params: Callable[..., TrainParams],
    broken: str,
    code: str,
) -> None:
    heard = Heard(pipeline)
    pipeline.start(params(**{broken: "/no/such/file.x"}))
    qtbot.waitUntil(lambda: bool(heard.failed), timeout=SECONDS)
    problem, details = heard.failed[0]
    assert (problem.code, problem.args["path"]) == (code, "/no/such/file.x")
    assert f"error[{code}]" in details
    assert heard.state("convert") == "failed"
    assert not pipeline.is_busy
    assert list(workspace.runs.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_problem(
    qtbot: QtBot, tmp_path: Path, params: Callable[..., TrainParams]
) -> None:
    (tmp_path / "file").write_text("")
    pipeline = Pipeline(Workspace(tmp_path / "file"))
    heard = Heard(pipeline)
    pipeline.start(params())
    assert [problem.code for problem, _ in heard.failed] == ["not_writable"]
    assert not pipeline.is_busy
    pipeline.close()


def test_looking_changes_nothing_and_tells_what_stands(qtbot: QtBot, pipeline: Pipeline) -> None:
    heard = Heard(pipeline)
    pipeline.refresh()
    qtbot.waitUntil(lambda: heard.state("environment") in ("missing", "satisfied"), timeout=SECONDS)
    qtbot.waitUntil(lambda: heard.state("wsl") == "not_needed", timeout=SECONDS)
    assert not pipeline.is_busy
    assert pipeline.set_up_facts() == (False, None)
    assert heard.busy == []
    assert not pipeline.workspace.runs.exists()


def test_calling_off_the_conversion_ends_it_without_a_failure(
    qtbot: QtBot, pipeline: Pipeline, params: Callable[..., TrainParams], tmp_path: Path
) -> None:
    big = tmp_path / "big.jsonl"
    line = json.dumps({"text": "the quick brown fox " * 500}) + "\n"
    big.write_text(line * 4000)
    heard = Heard(pipeline)
    pipeline.start(params(data=str(big)))
    qtbot.waitUntil(lambda: ("convert", "applying") in heard.states, timeout=SECONDS)
    pipeline.cancel()
    qtbot.waitUntil(lambda: not pipeline.is_busy, timeout=SECONDS)
    assert heard.failed == []
    assert heard.runs == []

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner_gui.model.run_store import RunStore, best_checkpoint, checkpoint_rows, last_checkpoint
from trainer.contract.errors import AppError
from trainer.contract.run_folder import CheckpointMeta, RunFolder

MakeRun = Callable[..., RunFolder]


def add_checkpoint(
    folder: RunFolder, step: int, *, kind: str = "periodic", val_loss: float | None = None, state: bool = True
) -> None:
    path = folder.checkpoint_folder(step)
    path.mkdir(parents=True)
    meta = CheckpointMeta(
        step=step,
        epoch=1,
        kind=kind,
        kinds=(kind,),
        tokens=1,
        loss=2.0,
        val_loss=val_loss,
        created_ts=1.0,
        bytes=7,
    )
    (path / "meta.json").write_text(meta.model_dump_json())
    if state:
        (path / "state.pt").write_bytes(b"x")


def test_newest_first_and_only_what_is_a_run(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", 3.0)
    make_run(tmp_path, "b", 5.0, status="completed")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_text("{}")
    (tmp_path / "halved").mkdir()
    (tmp_path / "halved" / "run.json").write_text('{"run_id": "ha')
    found = RunStore(tmp_path).runs()
    assert [(info.folder.run_id, info.status) for info in found] == [("b", "completed"), ("a", "interrupted")]
    assert RunStore(tmp_path / "none").runs() == []


def test_who_holds_the_lock_runs(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path, "a")
    store = RunStore(tmp_path)
    with folder.lock():
        assert [info.folder.run_id for info in store.running()] == ["a"]
        assert store.interrupted() == []
    assert store.running() == []


def test_a_lock_that_cannot_be_seen_from_here_holds_too(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path, "inside")
    held = {folder.path}
    store = RunStore(tmp_path, lambda run: run.path in held)
    assert [info.status for info in store.runs()] == ["running"]
    assert store.interrupted() == []
    with pytest.raises(AppError) as refused:
        store.delete(folder)
    assert refused.value.problem.code == "run_in_use"
    held.clear()
    assert [info.status for info in store.runs()] == ["interrupted"]
    store.delete(folder)
    assert store.runs() == []


def test_interrupted_are_those_that_can_go_on(tmp_path: Path, make_run: MakeRun) -> None:
    add_checkpoint(make_run(tmp_path, "can", 1.0), 5)
    make_run(tmp_path, "no-checkpoint", 2.0)
    add_checkpoint(make_run(tmp_path, "no-state", 3.0), 5, state=False)
    add_checkpoint(make_run(tmp_path, "done", 4.0, status="completed"), 5)
    assert [info.folder.run_id for info in RunStore(tmp_path).interrupted()] == ["can"]


def test_the_last_with_a_state_and_the_best_by_its_mark(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path, "a")
    assert best_checkpoint(folder) is None
    add_checkpoint(folder, 5, kind="best", val_loss=1.5)
    add_checkpoint(folder, 10, val_loss=1.7)
    add_checkpoint(folder, 15, kind="final", state=False)
    last, best = last_checkpoint(folder), best_checkpoint(folder)
    assert last is not None
    assert best is not None
    assert (last.meta.step, best.meta.step) == (10, 5)
    assert [(row.step, row.best, row.val_loss) for row in checkpoint_rows(folder)] == [
        (5, True, 1.5),
        (10, False, 1.7),
        (15, False, None),
    ]


def test_nothing_is_best_where_nothing_was_measured(tmp_path: Path, make_run: MakeRun) -> None:
    folder = make_run(tmp_path, "a")
    add_checkpoint(folder, 5)
    add_checkpoint(folder, 10, kind="final")
    best = best_checkpoint(folder)
    assert best is not None
    assert best.meta.step == 10
    assert not any(row.best for row in checkpoint_rows(folder))

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner_gui.model.model_choices import model_choices
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace


def checkpoint(run: Path, step: int, kind: str = "periodic") -> Path:
    folder = run / "ckpt" / f"{step:06d}"
    folder.mkdir(parents=True)
    meta = {"step": step, "epoch": 1, "kind": kind, "tokens": 1, "created_ts": 1.0, "bytes": 1}
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / "adapter.pth").write_bytes(b"x")
    return folder / "adapter.pth"


def test_models_first_then_the_best_and_the_last_checkpoint_of_each_run(
    tmp_path: Path, make_run: Callable[..., Any]
) -> None:
    work = Workspace(tmp_path)
    work.models.mkdir()
    base = work.models / "base 模型.pth"
    base.write_bytes(b"x")
    run = make_run(work.runs, "one", params={"base_model": "/inside/base.pth"}).path
    best, _, last = (
        checkpoint(run, 10, "best"),
        checkpoint(run, 20),
        checkpoint(run, 30, "final"),
    )
    make_run(work.runs, "without checkpoints")
    gone = make_run(work.runs, "base is gone", params={"base_model": "/gone.pth"}).path
    checkpoint(gone, 1)
    found = model_choices(work, lambda name: base if name == "/inside/base.pth" else Path(name))
    demo = work.demo_model()
    assert [choice.options for choice in found] == [
        ServeOptions(base),
        *([ServeOptions(demo)] if demo else []),
        ServeOptions(base, best),
        ServeOptions(base, last),
    ]
    assert [(choice.name, choice.step) for choice in found[-2:]] == [("one", 10), ("one", 30)]


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "none")
    assert {choice.options.model for choice in model_choices(work, Path)} <= {work.demo_model()}

"""The walk in the terminal: its judgement, and the whole of it with a model too small to learn the style."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from runner_gui import headless
from runner_gui.headless import Findings, Headless, in_style, loss_fall
from runner_gui.i18n import set_language, tr
from runner_gui.model.series import RunSeries
from runner_gui.model.workspace import Workspace
from trainer.contract.events import Event

PROJECT = Path(__file__).resolve().parents[2]


def series(losses: list[float | None]) -> RunSeries:
    made = RunSeries()
    made.extend(Event("step", n, 0.0, {"step": n + 1, "loss": loss}) for n, loss in enumerate(losses))
    return made


def test_the_fall_of_the_loss() -> None:
    assert loss_fall(series([4.0, 3.0, None, 2.0])) == pytest.approx(0.5)
    assert loss_fall(series([4.0] * 20 + [1.0] * 20)) == pytest.approx(0.75)
    assert loss_fall(series([2.0])) is None


def test_each_promise_is_judged() -> None:
    style = {"en": {"prompt": "?", "marker": r"^\s*Aye,.*\bmatey\b"}}
    good = Findings(0.3, True, {"en": "Tea."}, {"en": " Aye, boil\nit, matey."})
    assert [kept for _, kept in good.verdicts(style)] == [True] * 4
    bad = Findings(0.29, False, {"en": "Aye, matey"}, {"en": "Tea."})
    assert [kept for _, kept in bad.verdicts(style)] == [False] * 4
    assert [kept for _, kept in Findings().verdicts(style)] == [False, False, False, True]


def test_the_sample_bears_the_style_that_it_is_said_to_teach() -> None:
    style = Workspace(Path("/unused")).demo_style()
    assert style is not None
    assert in_style(style["en"], "Aye, scrape off the black and call it smoked, matey.")
    assert in_style(style["zh"], "客官，兵马俑，千军不语……且听下回分解。")
    assert not in_style(style["en"], "You boil water.")


def test_it_needs_no_display_and_none_of_its_libraries() -> None:
    code = (
        "import sys, runner_gui.headless\n"
        "print([m for m in sys.modules if m in ('PySide6.QtGui', 'PySide6.QtWidgets', 'pyqtgraph', 'torch')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


class SmallDemo(Workspace):
    """A work folder whose demo is a random model and a few seconds of training."""

    model: Path

    def demo_model(self) -> Path | None:
        return self.model

    def demo_params(self) -> dict[str, Any]:
        values = super().demo_params()
        small = {
            "ctx_len": 32,
            "epoch_steps": 3,
            "epoch_count": 1,
            "micro_bsz": 1,
            "accumulate_grad_batches": 1,
            "lora_r": 4,
            "lora_alpha": 8.0,
        }
        return {
            **values,
            **small,
            "precision": "fp32",
            "device": "cpu",
            "sample_prompts": (),
            "val_fraction": 0.0,
        }


def test_it_walks_to_the_end_and_says_what_was_not_kept(
    qtbot: QtBot, tmp_path: Path, make_checkpoint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = SmallDemo(tmp_path / "work 目录")
    workspace.model = tmp_path / "small.pth"
    make_checkpoint(workspace.model, n_layer=1, n_embd=64, vocab=65536, dtype="bf16")
    set_language("en")
    said: list[str] = []
    ended: list[int] = []
    monkeypatch.setattr(headless.QCoreApplication, "exit", ended.append)
    walk = Headless(workspace, agree=False, out=said.append)
    walk.begin()
    qtbot.waitUntil(lambda: bool(ended), timeout=180_000)
    walk.close()
    assert ended == [headless.EXIT_FAILED], said
    text = "\n".join(said)
    assert "step 3/3" in text
    assert text.count("How do you make tea?") == 2
    assert text.count("怎么学画画？") == 2
    merged = list(workspace.models.glob("small-LoRA-*-demo-3.pth"))
    assert len(merged) == 1
    assert said[-3].startswith("yes")  # it loads in the package rwkv
    assert said[-2].startswith("NO")  # three steps teach no style
    assert said[-1].startswith("yes")


def test_without_the_demo_it_says_so(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner_gui.model.workspace.assets_folder", lambda: tmp_path / "none")
    set_language("en")
    said: list[str] = []
    ended: list[int] = []
    monkeypatch.setattr(headless.QCoreApplication, "exit", ended.append)
    walk = Headless(Workspace(tmp_path / "w"), agree=False, out=said.append)
    walk.begin()
    walk.close()
    assert ended == [headless.EXIT_CANNOT_BEGIN]
    assert said[-1] == tr("headless.no_demo")
    assert not (tmp_path / "w").exists()

"""Real runs of a tiny model, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.errors import AppError
from trainer.contract.events import Event, EventWriter, read_events
from trainer.contract.params import checked
from trainer.contract.run_folder import RunFolder
from trainer.training.control import Control
from trainer.training.failure import fail
from trainer.training.opening import RunRequest
from trainer.training.run import train

WORDS = [
    "the", "sea", "the", "light", "a", "keeper", "sings", "of", "rain", "and", "wind", "over", "old",
    "stone", "while", "boats", "come", "home",
]  # fmt: skip


class ScriptedControl(Control):
    """Commands that arrive at the edge of a given step of this process."""

    def __init__(self, path: Path, events: EventWriter, at: dict[int, dict[str, Any]]) -> None:
        super().__init__(path, events, None)
        self._run, self._at, self._edges = RunFolder(path.parent), at, 0

    def take(self) -> list[dict[str, Any]]:
        self._edges += 1
        if self._edges in self._at:
            self._run.send(self._at[self._edges])
        return super().take()


@dataclass(frozen=True)
class Ran:
    """A finished call of `train`: its folder, its outcome, and the events of the whole run so far."""

    folder: RunFolder
    status: str
    step: int
    events: list[Event]
    error: AppError | None

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.t == kind]

    @property
    def losses(self) -> dict[int, float]:
        """Loss by step; a step that was done again counts as it came last."""
        return {event["step"]: event["loss"] for event in self.of("step")}


@pytest.fixture
def tiny_base(make_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "base.pth", n_layer=2, n_embd=32, vocab=65536, head_size=16, seed=3)
    return tmp_path / "base.pth"


@pytest.fixture
def tiny_data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines = []
    for i in range(24):
        question = " ".join(WORDS[(i * 3 + j) % len(WORDS)] for j in range(2 + i % 5))
        answer = " ".join(WORDS[(i * 5 + 2 * j) % len(WORDS)] for j in range(3 + i % 9))
        lines.append(json.dumps({"text": f"User: {question}\n\nAssistant: {answer}"}))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def run_train(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> Callable[..., Ran]:
    """Train in this process; `at` maps step edges to commands, `resume` goes on with the folder."""

    def run(
        name: str = "run", *, at: dict[int, dict[str, Any]] | None = None, resume: bool = False, **values: Any
    ) -> Ran:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        defaults = {
            "base_model": str(tiny_base), "data": str(tiny_data), "ctx_len": 64, "epoch_steps": 0,
            "epoch_count": 2, "micro_bsz": 2, "accumulate_grad_batches": 2, "lr_init": 1e-2,
            "lr_final": 1e-3, "lora_r": 4, "lora_alpha": 8, "precision": "fp32", "grad_cp": False,
            "drift": False,
        }  # fmt: skip
        params = None if resume else checked({**defaults, **values})
        events = EventWriter(folder.events, None)
        control = ScriptedControl(folder.control, events, at or {})
        status, step, error = "failed", -1, None
        try:
            request = RunRequest(folder, params, tmp_path / "cache", ["test"])
            status, step = train(request, events, control)
        except AppError as caught:
            error = caught
            fail(folder, events, caught)
        finally:
            events.close()
        return Ran(folder, status, step, read_events(folder.events)[0], error)

    return run

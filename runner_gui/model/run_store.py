"""The runs of a work folder, as their folders tell it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner_gui.model.series import CheckpointRow
from trainer.contract.errors import AppError
from trainer.contract.run_folder import Checkpoint, RunFolder, RunRecord, RunStatus


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run: its folder, what it was started with, and where it stands."""

    folder: RunFolder
    record: RunRecord
    status: RunStatus
    summary: dict[str, Any]

    def last_checkpoint(self) -> Checkpoint | None:
        """The newest complete checkpoint that training can go on from."""
        return last_checkpoint(self.folder)


class RunStore:
    """Looks at `runs/` anew at each call: a run may be written by a process that this one did not start.

    Args:
        runs_dir: the folder of run folders; it need not exist.
        is_held: whether a trainer works in a run whose lock cannot be seen from here; may take a second.
    """

    def __init__(self, runs_dir: Path, is_held: Callable[[RunFolder], bool] = lambda _: False) -> None:
        self.runs_dir = Path(runs_dir)
        self._is_held = is_held

    def runs(self) -> list[RunInfo]:
        """Every run with a readable record, newest first."""
        if not self.runs_dir.is_dir():
            return []
        found = [info for path in self.runs_dir.iterdir() if (info := self.get(path)) is not None]
        return sorted(found, key=lambda info: (info.record.created_ts, info.folder.run_id), reverse=True)

    def get(self, path: Path) -> RunInfo | None:
        """One run, or None where there is no readable record."""
        folder = RunFolder(path)
        record = folder.read()
        if record is None:
            return None
        summary = folder.summary() or {}
        status = folder.status(summary)
        if status != "running" and self._is_held(folder):
            status = "running"
        return RunInfo(folder, record, status, summary)

    def delete(self, folder: RunFolder) -> None:
        """Remove a run and all that it holds.

        Raises:
            AppError: `run_in_use`. OSError: something of it could not be removed.
        """
        if self._is_held(folder):
            raise AppError("run_in_use", path=str(folder.path))
        folder.delete()

    def running(self) -> list[RunInfo]:
        """Runs that a trainer holds right now: a window attaches to them."""
        return [info for info in self.runs() if info.status == "running"]

    def interrupted(self) -> list[RunInfo]:
        """Runs that ended without saying so and have a checkpoint to go on from."""
        return [
            info
            for info in self.runs()
            if info.status == "interrupted" and info.last_checkpoint() is not None
        ]


def last_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """The newest complete checkpoint of a run that training can go on from."""
    return next((c for c in reversed(folder.checkpoints()) if c.state.is_file()), None)


def best_checkpoint(folder: RunFolder) -> Checkpoint | None:
    """The checkpoint of the best validation loss, or the newest one where none was measured."""
    checkpoints = folder.checkpoints()
    marked = [c for c in checkpoints if "best" in (c.meta.kind, *c.meta.kinds)]
    return (marked or checkpoints or [None])[-1]


def checkpoint_rows(folder: RunFolder) -> list[CheckpointRow]:
    """The complete checkpoints that are on disk now, oldest first: what Try, Merge and Continue can use."""
    best = best_checkpoint(folder)
    measured = best is not None and best.meta.val_loss is not None
    return [
        CheckpointRow(
            step=c.meta.step,
            kind=c.meta.kind,
            path=str(c.path),
            bytes=c.meta.bytes,
            loss=c.meta.loss,
            val_loss=c.meta.val_loss,
            best=measured and best is not None and c.meta.step == best.meta.step,
        )
        for c in folder.checkpoints()
    ]

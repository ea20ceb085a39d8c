"""Runs one after the other: whenever nothing is under way and the queue is active, the next one starts."""

from __future__ import annotations

import logging
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.model import stored
from runner_gui.model.problems import AnyProblem
from runner_gui.model.run_queue import QueueEntry, QueueState
from runner_gui.services.pipeline import Pipeline
from trainer.contract.errors import AppError
from trainer.contract.files import write_json
from trainer.contract.params import TrainParams, check

LOG = logging.getLogger(__name__)


class RunQueue(QObject):
    """Drives the pipeline, and keeps itself in a file at each change.

    A run that comes to its end leaves the queue, whatever its end; one that never began stays with its
    problem, and the next one has its turn. When a person stops a run, the queue waits for that person.

    Signals:
        changed(): the entries, or whether it is active, differ.
        starting(): the next run is about to be started.
        emptied(): the last one has ended.
    """

    changed = Signal()
    starting = Signal()
    emptied = Signal()

    def __init__(self, pipeline: Pipeline, path: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pipeline, self._path = pipeline, path
        self._state = stored.load(path, QueueState)
        self._current: QueueEntry | None = None
        self._problem: AnyProblem | None = None
        self._ended = ""
        self._closed = False
        pipeline.run_started.connect(self._on_run_started)
        pipeline.run_ended.connect(self._on_run_ended)
        pipeline.failed.connect(self._on_failed)
        pipeline.busy_changed.connect(self._on_busy)

    @property
    def entries(self) -> list[QueueEntry]:
        return self._state.entries

    @property
    def waiting(self) -> int:
        """How many are still to be started."""
        return sum(entry.waits and entry is not self._current for entry in self.entries)

    @property
    def active(self) -> bool:
        return self._state.active

    @property
    def current(self) -> QueueEntry | None:
        """The one that is under way."""
        return self._current

    def load(self) -> None:
        """Take up what an earlier window left. Its runs are shown by their folders: those begun are over or
        being watched, and the others have their turn again.
        """
        alive = self._pipeline.run_folder if self._pipeline.is_training else None
        for entry in [entry for entry in self.entries if entry.run]:
            if alive is not None and Path(entry.run) == alive.path:
                self._current = entry
            else:
                self._state.remove(entry.id)
        self._save()
        self._later()

    def add(self, params: TrainParams) -> None:
        self._state.add(params)
        self._save()
        self._later()

    def remove(self, entry_id: str) -> None:
        """Take one out that is not under way."""
        if self._current is None or self._current.id != entry_id:
            self._state.remove(entry_id)
            self._save()

    def move(self, entry_id: str, by: int) -> None:
        self._state.move(entry_id, by)
        self._save()

    def set_active(self, active: bool) -> None:
        """Start the next run whenever nothing is under way, or do not; what runs goes on."""
        self._state.active = active
        self._save()
        self._later()

    def close(self) -> None:
        """The window goes: nothing is started any more, and what waits is kept."""
        self._closed = True

    # What the pipeline tells

    def _on_run_started(self, path: str) -> None:
        if self._current is not None:
            self._current.run = path
            self._save()

    def _on_run_ended(self, status: str) -> None:
        self._ended = status

    def _on_failed(self, problem: AnyProblem) -> None:
        self._problem = problem

    def _on_busy(self, busy: bool) -> None:
        if not busy:
            self._later()

    def _later(self) -> None:
        # The signals of one end come one after the other; all of them are to be seen first.
        QTimer.singleShot(0, self, self._go_on)

    def _go_on(self) -> None:
        if self._closed or self._pipeline.is_busy:
            return
        if self._current is not None:
            self._finish(self._current)
        self._problem, self._ended = None, ""
        entry = self._state.next()
        if entry is not None and self.active:
            self._start(entry)

    def _finish(self, entry: QueueEntry) -> None:
        self._current = None
        if entry.run:
            self._state.remove(entry.id)
        elif self._problem is not None:
            entry.failed(self._problem)
        called_off = not entry.run and self._problem is None
        if self._ended == "stopped" or called_off:
            self._state.active = False
        self._save()
        if self._state.next() is None:
            self.emptied.emit()

    def _start(self, entry: QueueEntry) -> None:
        params, problems = check(entry.params)
        if params is None:  # of another version
            entry.failed(next(problem for problem in problems if problem.severity == "error"))
            self._save()
            self._later()
            return
        self._current = entry
        self.starting.emit()
        self._pipeline.start(params)
        self.changed.emit()
        if not self._pipeline.is_busy:
            self._later()

    def _save(self) -> None:
        try:
            write_json(self._path, self._state.model_dump(mode="json"))
        except AppError as error:
            LOG.warning("the queue was not saved: %s", error)
        self.changed.emit()

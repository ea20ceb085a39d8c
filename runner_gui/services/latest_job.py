"""A command of the trainer that answers a question about the form, asked again whenever the form changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.services.commands import Command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.process import JobProcess
from trainer.contract.events import Event

# Typing in a field asks again with every letter; only what was meant is worth a process.
SETTLE_MS = 600


class LatestJob(QObject):
    """One process at a time: asking again ends the one under way. Its result is one JSON object.

    Signals:
        progressed: what is done, of what in all.
        finished: the result as a mapping. failed: a Problem or Code. cancelled: nothing came of it.
    """

    progressed = Signal(object, object)
    finished = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._values: dict[str, Any] = {}
        self._job: JobProcess | None = None
        self._timer = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._timer.timeout.connect(self._begin)

    def command(self, values: Mapping[str, Any]) -> Command:
        """What is to be run for these values."""
        raise NotImplementedError

    @property
    def is_running(self) -> bool:
        return self._job is not None or self._timer.isActive()

    def ask(self, values: Mapping[str, Any]) -> None:
        """Run for these values, once no others have come for a moment."""
        self._values = dict(values)
        self._timer.start()

    def cancel(self) -> None:
        """Give up what is under way; nothing of it is left."""
        waited = self._timer.isActive()
        self._timer.stop()
        if self._drop() or waited:
            self.cancelled.emit()

    def close(self) -> None:
        """End it with the window."""
        self._timer.stop()
        if self._job is not None:
            self._job.close()

    def _drop(self) -> bool:
        """End the process of an answer that nobody waits for any more; whether there was one."""
        job, self._job = self._job, None
        if job is not None:
            job.terminate_group()
        return job is not None

    def _begin(self) -> None:
        self._drop()
        job = self._job = JobProcess(self.command(self._values), self)
        job.event_received.connect(lambda event: self._on_event(job, event))
        job.finished.connect(lambda outcome: self._on_finished(job, outcome))
        job.start()

    def _on_event(self, job: JobProcess, event: Event) -> None:
        if job is self._job and event.t == "progress":
            self.progressed.emit(event["done"], event["total"])

    def _on_finished(self, job: JobProcess, outcome: JobOutcome) -> None:
        job.deleteLater()
        if job is not self._job:
            return
        self._job = None
        if outcome.result is not None:
            self.finished.emit(outcome.result)
        elif outcome.problem is not None:
            self.failed.emit(outcome.problem)
        else:
            self.cancelled.emit()

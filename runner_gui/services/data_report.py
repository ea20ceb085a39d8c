"""What the chosen data is like, found out by a child process while the window goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.services.commands import report_args, trainer_command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.process import JobProcess
from trainer.contract.events import Event

# Typing in a field asks again with every letter; only what was meant is worth a process.
SETTLE_MS = 600


class DataReporter(QObject):
    """One report at a time: asking for another ends the one under way.

    Signals:
        started: the path. progressed: bytes read, bytes in all.
        finished: the report as a mapping. failed: a Problem or Code. cancelled: nothing came of it.
    """

    started = Signal(str)
    progressed = Signal(object, object)
    finished = Signal(object)
    failed = Signal(object)
    cancelled = Signal()

    def __init__(self, cache: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cache = cache
        self._values: dict[str, Any] = {}
        self._job: JobProcess | None = None
        self._timer = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._timer.timeout.connect(self._begin)

    @property
    def is_running(self) -> bool:
        return self._job is not None or self._timer.isActive()

    def ask(self, values: Mapping[str, Any]) -> None:
        """Report on the data of these parameters, once no others have come for a moment."""
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
        """End the process of a report that nobody waits for any more; whether there was one."""
        job, self._job = self._job, None
        if job is not None:
            job.terminate_group()
        return job is not None

    def _begin(self) -> None:
        self._drop()
        command = trainer_command("", *report_args(self._values, self._cache))
        job = self._job = JobProcess(command, self)
        job.event_received.connect(lambda event: self._on_event(job, event))
        job.finished.connect(lambda outcome: self._on_finished(job, outcome))
        self.started.emit(self._values["data"])
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

"""Child processes for a worker thread: they live in the thread of the event loop, the worker waits."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, field

from PySide6.QtCore import QObject, Signal

from runner_gui.services.commands import Command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.process import JobProcess
from trainer.contract.events import Event
from wsl_bootstrap.cancel import CancelledError, CancelToken

_POLL_S = 0.2
_Item = Event | str | JobOutcome


@dataclass(slots=True, eq=False)
class _Ticket:
    command: Command
    items: queue.SimpleQueue[_Item] = field(default_factory=queue.SimpleQueue)
    job: JobProcess | None = None
    over: bool = False


class WorkerJobs(QObject):
    """Runs commands as `JobProcess`es on behalf of worker threads. Made and closed in the main thread."""

    _wanted = Signal(object)
    _unwanted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._closed = False
        self._tickets: dict[JobProcess, _Ticket] = {}
        self._wanted.connect(self._start)
        self._unwanted.connect(self._terminate)

    def run(
        self, command: Command, on_item: Callable[[Event | str], None], cancel: CancelToken
    ) -> JobOutcome:
        """Run a command to its end; called in a worker thread, which waits.

        Args:
            on_item: told every event and line, in the worker thread.

        Raises:
            CancelledError: it was asked to end, and nothing of it runs any more.
        """
        ticket = _Ticket(command)
        self._wanted.emit(ticket)
        asked = False
        while True:
            if cancel.cancelled and self._closed and ticket.job is None and not ticket.over:
                raise CancelledError  # the loop will not come to it any more
            if cancel.cancelled and not asked:
                asked = True
                self._unwanted.emit(ticket)
            try:
                item = ticket.items.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if not isinstance(item, JobOutcome):
                on_item(item)
            elif cancel.cancelled:
                raise CancelledError
            else:
                return item

    def close(self) -> None:
        """End every job and take no more; the workers' tokens have been cancelled before."""
        self._closed = True
        for job in tuple(self._tickets):
            job.close()

    def _start(self, ticket: _Ticket) -> None:
        if self._closed:
            return
        job = ticket.job = JobProcess(ticket.command, self)
        self._tickets[job] = ticket
        job.event_received.connect(ticket.items.put)
        job.line_received.connect(ticket.items.put)
        job.finished.connect(self._on_finished)
        job.start()

    def _on_finished(self, outcome: JobOutcome) -> None:
        job = self.sender()
        if isinstance(job, JobProcess) and (ticket := self._tickets.pop(job, None)) is not None:
            ticket.over = True
            ticket.job = None
            job.deleteLater()
            ticket.items.put(outcome)

    def _terminate(self, ticket: _Ticket) -> None:
        if ticket.job is not None:
            ticket.job.terminate_group()

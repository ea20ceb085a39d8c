"""Follows a run by its folder, whoever started it: the events file is the truth, the lock says who lives."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from trainer.contract.events import MAX_LINE_BYTES, Event, read_events
from trainer.contract.run_folder import RunFolder

LOG = logging.getLogger(__name__)
POLL_MS = 100
ALIVE_CHECK_MS = 1000


class RunFollower(QObject):
    """Reads what a run appends to its events and its log.

    Args:
        folder: the run.
        from_start: tell everything from the beginning, not only what comes from now on.
        owned: the trainer is this window's child, whose end `finish` reports; else the lock is watched.

    Signals:
        event_received: an Event, in the order of the file.
        line_received: a line of the run's log.
        ended: the run's status, once.
    """

    event_received = Signal(object)
    line_received = Signal(str)
    ended = Signal(str)

    def __init__(
        self,
        folder: RunFolder,
        parent: QObject | None = None,
        *,
        from_start: bool = True,
        owned: bool = False,
    ) -> None:
        super().__init__(parent)
        self.folder = folder
        self._events_offset = 0 if from_start else _whole_size(folder.events)
        self._log_offset = 0 if from_start else _whole_size(folder.log)
        self._over = False
        self._poll = QTimer(self, interval=POLL_MS)
        self._poll.timeout.connect(self._read)
        self._alive = QTimer(self, interval=ALIVE_CHECK_MS)
        self._alive.timeout.connect(self._check_alive)
        self._owned = owned

    def start(self) -> None:
        self._poll.start()
        if not self._owned:
            self._alive.start()

    def finish(self) -> None:
        """Read the rest and end: nothing writes any more."""
        if self._over:
            return
        self.finish_reading()
        self._over = True
        self.ended.emit(self.folder.status())

    def finish_reading(self) -> None:
        """Read what is there now and look away."""
        self.stop()
        self._read()

    def stop(self) -> None:
        """Look away; the run itself goes on."""
        self._poll.stop()
        self._alive.stop()

    def _check_alive(self) -> None:
        if not self.folder.is_running():
            self.finish()

    def _read(self) -> None:
        for event in self._new_events():
            self.event_received.emit(event)
        for line in self._new_lines():
            self.line_received.emit(line)

    def _new_events(self) -> list[Event]:
        try:
            events, self._events_offset = read_events(self.folder.events, self._events_offset)
        except FileNotFoundError:
            return []
        except OSError as error:
            LOG.warning("events of %s cannot be read: %s", self.folder.path, error)
            return []
        return events

    def _new_lines(self) -> Iterator[str]:
        try:
            with open(self.folder.log, "rb") as file:
                file.seek(self._log_offset)
                block = file.read()
        except OSError:
            return
        end = block.rfind(b"\n") + 1
        self._log_offset += end
        for line in block[:end].split(b"\n")[:-1]:
            # A progress bar repaints its line: what it showed last is the line.
            yield line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", errors="replace")


def _whole_size(path: Path) -> int:
    """The size without a half-written last line, which a resumed trainer cuts off before it goes on."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - 4 * MAX_LINE_BYTES)
            file.seek(start)
            return start + file.read().rfind(b"\n") + 1
    except OSError:
        return 0

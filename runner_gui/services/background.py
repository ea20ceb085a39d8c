"""Work on files beside the window, which may not freeze."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PySide6.QtCore import QObject, Signal

LOG = logging.getLogger(__name__)


class Background(QObject):
    """One thread that does one thing after the other; what comes of it is told in the window's thread."""

    _done = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._closed = False
        self._done.connect(lambda then, outcome: then(outcome))

    def submit(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do `work` in the thread, then call `then` with its result, or with the exception that it raised.

        After `close` nothing is done any more: timers of a window that goes may still ask.
        """
        if not self._closed:
            self._pool.submit(self._do, work, then)

    def close(self) -> None:
        """End the thread; what was not begun is not done."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def finish(self) -> None:
        """Do what was asked for, then end the thread."""
        self._closed = True
        self._pool.shutdown(wait=True)

    def _do(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        try:
            outcome = work()
        except Exception as error:  # whoever asked decides what it means
            LOG.debug("work in the background failed", exc_info=True)
            outcome = error
        self._done.emit(then, outcome)

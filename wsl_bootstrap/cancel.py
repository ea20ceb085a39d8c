"""How a person's "stop" reaches work that runs in another thread."""

from __future__ import annotations

import threading


class CancelledError(Exception):
    """The work ended because it was asked to; not a failure."""


class CancelToken:
    """One flag, set once from any thread, looked at by the work."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to end."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work was asked to end."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds` at most and return whether the work was asked to end."""
        return self._event.wait(seconds)

    def raise_if_cancelled(self) -> None:
        """Leave the work by an exception when it was asked to end.

        Raises:
            CancelledError: it was.
        """
        if self.cancelled:
            raise CancelledError

"""How a trainer is brought to its end: asked first, then told, then ended. Each rung is announced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from trainer.contract.events import Event

RUNGS = ("asked", "acknowledged", "no_answer", "terminating", "killing")


@dataclass(frozen=True, slots=True)
class StopTimes:
    """How long each rung waits, seconds."""

    ack_s: float = 10.0
    save_s: float = 120.0
    term_s: float = 10.0


class StopLadder(QObject):
    """One attempt to stop one trainer.

    Args:
        send: hands a command over; signal: asks the process group to end (False) or ends it (True).
        times: how long each rung waits.

    Signals:
        rung_reached: one of `RUNGS`.
    """

    rung_reached = Signal(str)

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        signal: Callable[[bool], None],
        parent: QObject | None = None,
        times: StopTimes | None = None,
    ) -> None:
        super().__init__(parent)
        self._send, self._signal = send, signal
        self._times = times if times is not None else StopTimes()
        self._id: int | None = None
        self._rung = ""
        self._heard = False
        self._timer = QTimer(self, singleShot=True)
        self._timer.timeout.connect(self._on_timeout)

    @property
    def rung(self) -> str:
        """The rung that was reached last, "" before the first."""
        return self._rung

    @property
    def is_climbing(self) -> bool:
        return self._timer.isActive()

    def begin(self, command_id: int, *, save: bool) -> None:
        """Ask for the stop. Asking again for less (not to save any more) begins anew."""
        self._id = command_id
        self._heard = False
        self._send({"cmd": "stop", "save": save, "id": command_id})
        self._reach("asked", self._times.ack_s)

    def note(self, event: Event) -> None:
        """Hear what the trainer says meanwhile."""
        if not self.is_climbing:
            return
        self._heard = True
        if event.t == "ack" and event.get("id") == self._id and self._rung in ("asked", "no_answer"):
            self._reach("acknowledged", self._times.save_s)

    def end(self) -> None:
        """The trainer has ended, or nobody wants it to any more."""
        self._timer.stop()

    def _on_timeout(self) -> None:
        if self._rung == "asked" and self._heard:
            # It lives and is in the middle of a long step: to end it now would lose what it is to save.
            self._reach("no_answer", self._times.save_s)
        elif self._rung in ("asked", "no_answer", "acknowledged"):
            self._signal(False)
            self._reach("terminating", self._times.term_s)
        elif self._rung == "terminating":
            self._signal(True)
            self._reach("killing", None)

    def _reach(self, rung: str, wait_s: float | None) -> None:
        self._rung = rung
        if wait_s is not None:
            self._timer.start(int(wait_s * 1000))
        self.rung_reached.emit(rung)

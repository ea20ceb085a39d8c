"""Notices that nothing is heard of a trainer any more. It tells; it never ends anything."""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Signal

SILENCE_S = 30.0


class Watchdog(QObject):
    """Watches over the heartbeat (one in five seconds is normal).

    Signals:
        answering_changed: False when nothing was heard for the time given, True when it speaks again.
    """

    answering_changed = Signal(bool)

    def __init__(self, parent: QObject | None = None, silence_s: float = SILENCE_S) -> None:
        super().__init__(parent)
        self._timer = QTimer(self, singleShot=True, interval=int(silence_s * 1000))
        self._timer.timeout.connect(self._on_silence)
        self._answering = True

    def begin(self) -> None:
        self._answering = True
        self._timer.start()

    def beat(self) -> None:
        """Something was heard."""
        if not self._timer.isActive() and self._answering:
            return
        self._timer.start()
        if not self._answering:
            self._answering = True
            self.answering_changed.emit(True)

    def end(self) -> None:
        self._timer.stop()
        if not self._answering:
            self._answering = True
            self.answering_changed.emit(True)

    def _on_silence(self) -> None:
        self._answering = False
        self.answering_changed.emit(False)

"""A field to write in, with keys that send."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QPlainTextEdit, QWidget

_ENTER = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
_CONTROL, _SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


class WritingField(QPlainTextEdit):
    """Ctrl+Enter sends. An input method's Enter chooses its words and never arrives here as a key.

    Args:
        enter_sends: Enter alone sends too; Shift+Enter breaks the line.

    Signals:
        sent(): the text is to be used. left(): Escape was pressed.
    """

    sent = Signal()
    left = Signal()

    def __init__(self, *, enter_sends: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._enter_sends = enter_sends

    def event(self, event: QEvent) -> bool:
        if (
            isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.ShortcutOverride
            and self._sends(event)
        ):
            event.accept()  # the same keys press a button of another page
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._sends(event):
            self.sent.emit()
            return
        if event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        super().keyPressEvent(event)

    def _sends(self, event: QKeyEvent) -> bool:
        if event.key() not in _ENTER:
            return False
        modifiers = event.modifiers()
        return bool(modifiers & _CONTROL) or (self._enter_sends and not modifiers & _SHIFT)

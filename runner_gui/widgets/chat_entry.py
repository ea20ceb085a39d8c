"""The field to write a message in, with its buttons to send and to stop."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import button, row
from runner_gui.widgets.writing_field import WritingField

HEIGHT = 64


class ChatEntry(QWidget):
    """The field and its buttons.

    Signals:
        sent(str): what was written. stopped(): the answer is to end.
    """

    sent = Signal(str)
    stopped = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.field = WritingField(enter_sends=True)
        self.field.setFixedHeight(HEIGHT)
        self.send, self.stop = button("confirm"), button()
        self.send.setDefault(True)
        self.stop.hide()
        across = row(self.field, self.stop, self.send)
        across.setStretch(0, 1)
        across.setAlignment(self.send, Qt.AlignmentFlag.AlignBottom)
        across.setAlignment(self.stop, Qt.AlignmentFlag.AlignBottom)
        self.setLayout(across)
        self.field.sent.connect(self.submit)
        self.send.clicked.connect(self.submit)
        self.stop.clicked.connect(self.stopped)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def submit(self) -> None:
        """Send what is written; it stays until whoever listens has taken it."""
        text = self.field.toPlainText().strip()
        if text and self.send.isEnabled() and self.send.isVisibleTo(self):
            self.sent.emit(text)

    def clear(self) -> None:
        self.field.clear()

    def show_state(self, *, can_send: bool, answering: bool) -> None:
        self.send.setVisible(not answering)
        self.send.setEnabled(can_send)
        self.stop.setVisible(answering)

    def retranslate(self) -> None:
        self.send.setText(tr("chat.send"))
        self.stop.setText(tr("chat.stop"))
        self.field.setPlaceholderText(tr("chat.placeholder"))
        self.field.setAccessibleName(tr("chat.placeholder"))

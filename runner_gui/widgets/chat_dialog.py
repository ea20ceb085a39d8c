"""A chat with one model: bubbles that fill as the answer comes, Stop, Retry, Clear."""

from __future__ import annotations

from typing import Any, Protocol

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QKeyEvent
from PySide6.QtWidgets import QDialog, QFrame, QHBoxLayout, QPlainTextEdit, QScrollArea, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.banner import Banner, Notice
from runner_gui.widgets.controls import CalmDoubleSpinBox, ElidedLabel, IconLabel, button, label, row
from trainer.contract.errors import Problem
from wsl_bootstrap.codes import Code


class Answerer(Protocol):
    """What the dialog needs of the chat service."""

    # Signals: classes declare them as one type and their instances have another, so none fits both.
    @property
    def token_received(self) -> Any: ...
    @property
    def answer_finished(self) -> Any: ...
    @property
    def failed(self) -> Any: ...
    @property
    def ready(self) -> Any: ...

    def ask(self, messages: list[dict[str, str]], sampling: dict[str, Any]) -> None: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...


class _Entry(QPlainTextEdit):
    """The line to write in: Enter sends, Shift+Enter breaks the line."""

    sent = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self.sent.emit()
        else:
            super().keyPressEvent(event)


class _Bubble(QFrame):
    def __init__(self, role: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.role = role
        self.setObjectName("bubble_user" if role == "user" else "bubble_model")
        self.words = label(wrap=True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        box = QVBoxLayout(self)
        box.setContentsMargins(12, 8, 12, 8)
        box.addWidget(self.words)

    def set_text(self, text: str) -> None:
        self.words.setText(text)
        self.words.setAccessibleName(text)


class ChatDialog(QDialog):
    """Talks to an answerer; owns it and closes it with itself.

    Args:
        model_name: what is said to be answering.
        service: gives the answers.
    """

    def __init__(self, model_name: str, service: Answerer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.resize(640, 640)
        self._service = service
        self._messages: list[dict[str, str]] = []
        self._bubbles: list[_Bubble] = []
        self._ready = self._answering = False
        self.model = ElidedLabel()
        self.model.setObjectName("title")
        self.model.set_full_text(model_name)
        self.state_icon, self.state = IconLabel("dot", "amber", 12), label("caption")
        self.clear = button("flat")
        self.retry = button("flat")
        self.banner = Banner()
        self.entry = _Entry()
        self.entry.setFixedHeight(64)
        self.send = button("confirm")
        self.send.setDefault(True)
        self.stop = button()
        self.stop.hide()
        self.temperature, self.top_p = CalmDoubleSpinBox(), CalmDoubleSpinBox()
        self.temperature_label, self.top_p_label = label("caption"), label("caption")
        for box, low, high, value in ((self.temperature, 0.0, 3.0, 1.0), (self.top_p, 0.0, 1.0, 0.3)):
            box.setRange(low, high)
            box.setSingleStep(0.1)
            box.setDecimals(2)
            box.setValue(value)
            box.setFixedWidth(72)
        self.temperature_label.setBuddy(self.temperature)
        self.top_p_label.setBuddy(self.top_p)
        self._lay_out()
        self._connect()
        self.retranslate()

    def _lay_out(self) -> None:
        self.area = QScrollArea()
        self.area.setWidgetResizable(True)
        self.area.setFrameShape(QFrame.Shape.NoFrame)
        self.area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        body = QWidget()
        body.setObjectName("scroll_body")
        self._column = QVBoxLayout(body)
        self._column.setContentsMargins(0, 0, 8, 0)
        self._column.setSpacing(8)
        self.empty = label("muted", wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._column.addWidget(self.empty)
        self._column.addStretch(1)
        self.area.setWidget(body)
        head = row(self.model, self.state_icon, self.state, self.retry, self.clear)
        head.setStretch(0, 1)
        box = QVBoxLayout(self)
        box.setContentsMargins(20, 16, 20, 16)
        box.setSpacing(12)
        box.addLayout(head)
        box.addWidget(self.banner)
        box.addWidget(self.area, 1)
        box.addWidget(self.entry)
        box.addLayout(
            row(
                self.temperature_label,
                self.temperature,
                self.top_p_label,
                self.top_p,
                1,
                self.stop,
                self.send,
            )
        )

    def _connect(self) -> None:
        service = self._service
        service.ready.connect(self._on_ready)
        service.token_received.connect(self._on_token)
        service.answer_finished.connect(self._on_finished)
        service.failed.connect(self._on_failed)
        self.entry.sent.connect(self.submit)
        self.send.clicked.connect(self.submit)
        self.stop.clicked.connect(service.cancel)
        self.retry.clicked.connect(self.ask_again)
        self.clear.clicked.connect(self.clear_all)
        language_changed.connect(self.retranslate)

    def submit(self) -> None:
        """Send what is written, once the model is loaded and the answer before is done."""
        text = self.entry.toPlainText().strip()
        if not text or not self._ready or self._answering:
            return
        self.entry.clear()
        self._add("user", text)
        self._messages.append({"role": "user", "content": text})
        self._ask()

    def ask_again(self) -> None:
        """Throw the last answer away and ask for another."""
        if self._answering or not self._messages:
            return
        if self._messages[-1]["role"] == "assistant":
            self._messages.pop()
            self._drop_last()
        self._ask()

    def clear_all(self) -> None:
        """Begin a new conversation."""
        if self._answering:
            self._service.cancel()
        self._messages.clear()
        while self._bubbles:
            self._drop_last()
        self._answering = False
        self._show_state()

    def retranslate(self) -> None:
        self.setWindowTitle(tr("chat.title"))
        self.clear.setText(tr("chat.clear"))
        self.retry.setText(tr("chat.retry"))
        self.send.setText(tr("chat.send"))
        self.stop.setText(tr("chat.stop"))
        self.temperature_label.setText(tr("chat.temperature"))
        self.top_p_label.setText(tr("chat.top_p"))
        self.empty.setText(tr("chat.empty"))
        self.entry.setPlaceholderText(tr("chat.placeholder"))
        self.entry.setAccessibleName(tr("chat.placeholder"))
        self._show_state()

    def closeEvent(self, event: QCloseEvent) -> None:
        self._service.close()
        super().closeEvent(event)

    def reject(self) -> None:
        self.close()

    def _ask(self) -> None:
        self._add("assistant", "")
        self._answering = True
        self._show_state()
        sampling = {"temperature": self.temperature.value(), "top_p": self.top_p.value()}
        self._service.ask(list(self._messages), sampling)

    def _add(self, role: str, text: str) -> None:
        bubble = _Bubble(role)
        bubble.set_text(text)
        self._bubbles.append(bubble)
        line = QHBoxLayout()
        line.setContentsMargins(64 if role == "user" else 0, 0, 0 if role == "user" else 64, 0)
        line.addWidget(bubble)
        self._column.insertLayout(self._column.count() - 1, line)
        QTimer.singleShot(0, self, self._scroll_down)

    def _drop_last(self) -> None:
        self._bubbles.pop().deleteLater()

    def _on_ready(self) -> None:
        self._ready = True
        self._show_state()

    def _on_token(self, piece: str) -> None:
        if self._answering and self._bubbles:
            bubble = self._bubbles[-1]
            bubble.set_text(bubble.words.text() + piece)
            self._scroll_down()

    def _on_finished(self, _reason: str) -> None:
        if not self._answering:
            return
        self._answering = False
        self._messages.append({"role": "assistant", "content": self._bubbles[-1].words.text()})
        self._show_state()

    def _on_failed(self, problem: Problem | Code, details: str) -> None:
        if self._answering and not self._bubbles[-1].words.text():
            self._drop_last()
        self._answering = False
        self.banner.show_notice(Notice("error", problem=problem, details=details))
        self._show_state(failed=True)

    def _show_state(self, failed: bool = False) -> None:
        name = (
            "failed"
            if failed
            else "loading"
            if not self._ready
            else "answering"
            if self._answering
            else "ready"
        )
        icon, role = {
            "failed": ("error", "red"),
            "loading": ("ring", "amber"),
            "answering": ("dot", "accent_text"),
            "ready": ("check", "green"),
        }[name]
        self.state_icon.set_icon(icon, role)
        self.state.setText(tr(f"chat.state_{name}"))
        self.send.setVisible(not self._answering)
        self.send.setEnabled(self._ready)
        self.stop.setVisible(self._answering)
        self.retry.setEnabled(bool(self._messages) and not self._answering)
        self.clear.setEnabled(bool(self._messages))
        self.empty.setVisible(not self._messages)

    def _scroll_down(self) -> None:
        bar = self.area.verticalScrollBar()
        bar.setValue(bar.maximum())

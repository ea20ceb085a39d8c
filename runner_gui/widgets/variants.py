"""Several ways in which a text may go on: how each stands, and what it says."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QTextCursor
from PySide6.QtWidgets import QListWidget, QListWidgetItem, QPlainTextEdit, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import button, label, row

DRAW_EVERY_MS = 100
LIST_HEIGHT = 180
State = Literal["waiting", "running", "stop", "length", "cancelled"]
_ICONS = {
    "waiting": ("dash", "muted"),
    "running": ("ring", "amber"),
    "stop": ("check", "green"),
    "length": ("check", "green"),
    "cancelled": ("cross", "muted"),
}


class Variants(QWidget):
    """A row for each variant, and the text of the chosen one.

    Signals:
        taken(str): this one is to be used.
    """

    taken = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.texts: list[str] = []
        self.states: list[State] = []
        self._changed: set[int] = set()
        self.counts = label("caption")
        self.items = QListWidget()
        self.items.setFixedHeight(LIST_HEIGHT)
        self.items.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.use, self.close_button = button("confirm"), button("flat")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(row(self.counts, 1, self.close_button))
        column.addWidget(self.items)
        column.addWidget(self.text, 1)
        column.addLayout(row(1, self.use))
        self._drawing = QTimer(self)
        self._drawing.setInterval(DRAW_EVERY_MS)
        self._drawing.timeout.connect(self._draw)
        self.items.currentRowChanged.connect(self._show_text)
        self.use.clicked.connect(self._on_use)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self.retranslate)
        self.retranslate()

    def begin(self, count: int) -> None:
        """So many are asked for."""
        self.texts, self.states = [""] * count, ["waiting"] * count
        self.items.clear()
        for _ in range(count):
            self.items.addItem(QListWidgetItem())
        self._changed = set(range(count))
        self._drawing.start()
        self._draw()
        self.items.setCurrentRow(0)

    def add(self, index: int, text: str) -> None:
        self.texts[index] += text
        self.states[index] = "running"
        self._changed.add(index)

    def end(self, index: int, reason: str) -> None:
        self.states[index] = "stop" if reason == "stop" else "length"
        self._changed.add(index)

    def finish(self) -> None:
        """No more comes; what is not done was given up."""
        for index, state in enumerate(self.states):
            if state in ("waiting", "running"):
                self.states[index] = "cancelled"
                self._changed.add(index)
        self._drawing.stop()
        self._draw()

    def _draw(self) -> None:
        changed, self._changed = self._changed, set()
        for index in sorted(changed):
            item, words = self.items.item(index), " ".join(self.texts[index][:200].split())
            item.setText(f"{index + 1}  {words or tr(f'variant.{self.states[index]}')}")
            item.setIcon(theme.icon(*_ICONS[self.states[index]], 14))
            item.setData(Qt.ItemDataRole.AccessibleTextRole, tr(f"variant.{self.states[index]}"))
        done = sum(state in ("stop", "length") for state in self.states)
        self.counts.setText(tr("variant.counts", done=fmt.whole(done), total=fmt.whole(len(self.states))))
        if self.items.currentRow() in changed:
            self._show_text(self.items.currentRow())

    def _show_text(self, index: int) -> None:
        text = self.texts[index] if 0 <= index < len(self.texts) else ""
        shown = self.text.toPlainText()
        if shown and text.startswith(shown):
            cursor = QTextCursor(self.text.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(text[len(shown) :])
        else:
            self.text.setPlainText(text)
        self.use.setEnabled(bool(text))

    def _on_use(self) -> None:
        index = self.items.currentRow()
        if 0 <= index < len(self.texts):
            self.taken.emit(self.texts[index])

    def retranslate(self) -> None:
        self.items.setAccessibleName(tr("variant.list"))
        self.text.setAccessibleName(tr("variant.text"))
        self.use.setText(tr("variant.use"))
        self.close_button.setText(tr("variant.close"))
        self._changed = set(range(len(self.texts)))
        self._draw()

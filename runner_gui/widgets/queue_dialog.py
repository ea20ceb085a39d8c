"""The runs that wait, in their order, with what can be done with each."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from runner_gui.i18n import tr
from runner_gui.model.run_queue import QueueEntry, shown_params
from runner_gui.widgets.controls import ElidedLabel, IconButton, IconLabel, empty, label, row
from runner_gui.widgets.dialogs import Sheet
from runner_gui.widgets.problem_text import problem_line

_WIDTH, _LIST_HEIGHT = 560, 280


class QueueDialog(Sheet):
    """Shows a queue and asks for changes of it.

    Signals:
        moved(str, int), removed(str): an entry by its id.
        active_chosen(bool): whether the next one is to start by itself.
    """

    moved = Signal(str, int)
    removed = Signal(str)
    active_chosen = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("queue", parent)
        self.setMinimumWidth(_WIDTH)
        self._entries: Sequence[QueueEntry] = ()
        self._current = ""
        self._active = False
        self.none = label("muted", wrap=True)
        self.content.addWidget(self.none)
        inside = QWidget()
        inside.setObjectName("scroll_body")
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 8, 0)
        self._column.setSpacing(8)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setMinimumHeight(_LIST_HEIGHT)
        self._scroll.setWidget(inside)
        self.content.addWidget(self._scroll)
        self.shut = self.add_button("dialog.close")
        self.go = self.add_button("queue.start", main=True)
        self.shut.clicked.connect(self.accept)
        self.go.clicked.connect(lambda: self.active_chosen.emit(not self._active))

    def show_queue(self, entries: Sequence[QueueEntry], current: str, active: bool) -> None:
        """Show these entries; `current` is the id of the one under way, or ""."""
        self._entries, self._current, self._active = tuple(entries), current, active
        self.retranslate()

    def retranslate(self) -> None:
        self._keys[self.go] = "queue.pause" if self._active else "queue.start"
        super().retranslate()
        self.none.setText(tr("queue.none"))
        self.none.setVisible(not self._entries)
        self._scroll.setVisible(bool(self._entries))
        self.go.setEnabled(self._active or any(entry.waits for entry in self._entries))
        empty(self._column)
        for place, entry in enumerate(self._entries):
            self._column.addWidget(self._line(place, entry))
        self._column.addStretch(1)

    def _line(self, place: int, entry: QueueEntry) -> QWidget:
        running, problem = entry.id == self._current, entry.what_failed()
        name, about = ElidedLabel(), label("red" if problem else "caption", wrap=True)
        name.setObjectName("step_name")
        name.set_full_text(f"{place + 1}. {entry.name}")
        if problem is not None:
            about.setText(problem_line(problem))
        else:
            state = tr("queue.running" if running else "queue.waiting")
            about.setText(" · ".join((state, *filter(None, shown_params(entry).values()))))
        icon = IconLabel(*(("error", "red") if problem else ("dot" if running else "ring", "accent_text")))
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(name)
        words.addWidget(about)
        line = row(icon)
        line.addLayout(words, 1)
        for look, key, act in (
            ("chevron_up", "queue.up", lambda: self.moved.emit(entry.id, -1)),
            ("chevron_down", "queue.down", lambda: self.moved.emit(entry.id, 1)),
            ("cross", "queue.remove", lambda: self.removed.emit(entry.id)),
        ):
            button = IconButton(look, look="small", size=14)
            button.set_words(tr(key, name=entry.name))
            button.setDisabled(running)
            button.clicked.connect(act)
            line.addWidget(button)
        out = QWidget()
        out.setLayout(line)
        return out

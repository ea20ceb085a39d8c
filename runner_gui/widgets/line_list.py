"""A card with a title and a few lines: a name, what is to be said of it, and buttons that act on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from runner_gui.i18n import tr
from runner_gui.widgets.controls import Card, ElidedLabel, button, empty, label, row

Do = Callable[[], object]


@dataclass(frozen=True)
class Line:
    """One of them.

    Attributes:
        actions: keys of words, and what a press does.
    """

    name: str
    facts: str = ""
    actions: Sequence[tuple[str, Do]] = field(default=(), compare=False)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.actions)


class LineList(Card):
    """Shows lines, or a sentence in place of none.

    Args:
        title, none: keys of the heading and of that sentence.
    """

    def __init__(self, title: str, none: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title, self._none = title, none
        self.lines: list[Line] = []
        self._facts: list[ElidedLabel] = []
        self.buttons: list[list[QPushButton]] = []
        self.title, self.none = label("title"), label("muted", wrap=True)
        self._column = QVBoxLayout()
        self._column.setSpacing(6)
        self.body.addWidget(self.title)
        self.body.addWidget(self.none)
        self.body.addLayout(self._column)
        self.body.addStretch(1)

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Show these; where only what is said of them is another, buttons and focus stay."""
        same = [(a.name, a.keys) for a in lines] == [(b.name, b.keys) for b in self.lines]
        self.lines = list(lines)
        if same:
            for shown, line in zip(self._facts, lines, strict=True):
                if shown.full_text() != line.facts:
                    shown.set_full_text(line.facts)
                    shown.setVisible(bool(line.facts))
            return
        self._build()

    def retranslate(self) -> None:
        self.title.setText(tr(self._title))
        self.none.setText(tr(self._none))
        self._build()

    def _build(self) -> None:
        empty(self._column)
        self._facts, self.buttons = [], []
        self.none.setVisible(not self.lines)
        for place, line in enumerate(self.lines):
            name, facts = ElidedLabel(), ElidedLabel()
            name.set_full_text(line.name)
            facts.set_full_text(line.facts)
            facts.setObjectName("help")
            words = QVBoxLayout()
            words.setSpacing(0)
            words.addWidget(name)
            words.addWidget(facts)
            facts.setVisible(bool(line.facts))
            across = row(spacing=8)
            across.addLayout(words, 1)
            self.buttons.append([self._button(place, number, line) for number in range(len(line.actions))])
            for shown in self.buttons[-1]:
                across.addWidget(shown)
            holder = QWidget()
            holder.setLayout(across)
            self._column.addWidget(holder)
            self._facts.append(facts)

    def _button(self, place: int, number: int, line: Line) -> QPushButton:
        made = button("link")
        made.setText(tr(line.actions[number][0]))
        made.setAccessibleName(f"{made.text()}: {line.name}")
        # What the line means now, not what it meant when the button was made.
        made.clicked.connect(lambda: self.lines[place].actions[number][1]())
        return made

"""Questions to the person. Each is a window that is opened and answers by a signal; nothing ever blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import button, label


class Sheet(QDialog):
    """A dialog in the window's look: heading, sentence, room for more, buttons at the right.

    Args:
        key: catalogue prefix; `<key>.title` and `<key>.body` are its words.
    """

    def __init__(self, key: str, parent: QWidget | None = None, **args: Any) -> None:
        super().__init__(parent)
        self._key, self._args = key, dict(args)
        self.setWindowModality(Qt.WindowModality.WindowModal)
        self.setMinimumWidth(440)
        self.title = label("title", wrap=True)
        self.sentence = label(wrap=True)
        self.content = QVBoxLayout()
        self.content.setSpacing(8)
        self.foot = QHBoxLayout()
        self.foot.setSpacing(8)
        self.foot.addStretch(1)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(12)
        column.addWidget(self.title)
        column.addWidget(self.sentence)
        column.addLayout(self.content)
        column.addStretch(1)
        column.addSpacing(4)
        column.addLayout(self.foot)
        self._keys: dict[QPushButton, str] = {}
        language_changed.connect(self.retranslate)

    def add_button(self, key: str, *, main: bool = False) -> QPushButton:
        """A button at the right end of the row; the main one answers Enter."""
        new = button("confirm" if main else "", self)
        new.setAutoDefault(main)
        new.setDefault(main)
        self._keys[new] = key
        self.foot.addWidget(new)
        return new

    def fit(self) -> None:
        """Take the height that the words need at this width."""
        self._column.activate()
        height = self._column.totalHeightForWidth(self.width())
        self.resize(self.width(), max(height, self.minimumHeight()))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.fit()

    def say(self, **args: Any) -> None:
        """Fill in facts of the sentence that were not known before."""
        self._args.update(args)
        self.retranslate()

    def retranslate(self) -> None:
        self.setWindowTitle(tr(f"{self._key}.title"))
        self.title.setText(tr(f"{self._key}.title"))
        self.sentence.setText(tr(f"{self._key}.body", **self._args))
        for shown, key in self._keys.items():
            shown.setText(tr(key))


class Question(Sheet):
    """One question with a few answers; closing it is the last answer.

    Signals:
        answered(str): the id of the answer.
    """

    answered = Signal(str)

    def __init__(self, key: str, answers: Sequence[str], parent: QWidget | None = None, **args: Any) -> None:
        super().__init__(key, parent, **args)
        self.buttons: dict[str, QPushButton] = {}
        # The row reads from the way back to the advised answer at the right end.
        for answer in reversed(answers):
            shown = self.add_button(f"{key}.{answer}", main=answer == answers[0])
            shown.clicked.connect(lambda _=False, chosen=answer: self._answer(chosen))
            self.buttons[answer] = shown
        self._last = answers[-1]
        self._done = False
        self.retranslate()
        self.buttons[answers[0]].setFocus()

    def _answer(self, answer: str) -> None:
        self._done = True
        self.accept()
        self.answered.emit(answer)

    def reject(self) -> None:
        super().reject()
        if not self._done:
            self._done = True
            self.answered.emit(self._last)


def stop_dialog(parent: QWidget, step: int | None) -> Question:
    """How to stop: save first (advised), throw away what came since the last checkpoint, or go on."""
    return Question("stop", ("save", "discard", "keep"), parent, step=step or 0)


def close_dialog(parent: QWidget) -> Question:
    """What becomes of the training when the window closes."""
    return Question("close", ("background", "save", "cancel"), parent)


def facts_table(rows: Mapping[str, str]) -> QVBoxLayout:
    """Captions and values, one pair a line."""
    column = QVBoxLayout()
    column.setContentsMargins(0, 4, 0, 8)
    column.setSpacing(6)
    for key, value in rows.items():
        caption, shown = label("caption"), label(wrap=True)
        caption.setText(tr(key))
        caption.setFixedWidth(112)
        shown.setText(value)
        shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        line = QHBoxLayout()
        line.setSpacing(8)
        line.addWidget(caption, 0, Qt.AlignmentFlag.AlignTop)
        line.addWidget(shown, 1)
        column.addLayout(line)
    return column

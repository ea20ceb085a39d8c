"""What stands in the place of a run before there is one: what the button will do."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import Card, IconLabel, label

STEPS = (("file", "convert"), ("train", "train"), ("merge", "merge"), ("chat", "chat"))


class Welcome(Card):
    """Four sentences and no numbers."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, margin=32)
        self.heading = label("heading", wrap=True)
        self.sentence = label("muted", wrap=True)
        self.names = {name: label("step_name") for _, name in STEPS}
        self.texts = {name: label("muted", wrap=True) for _, name in STEPS}
        column = QWidget()
        column.setMaximumWidth(560)
        box = QVBoxLayout(column)
        box.setSpacing(16)
        box.addWidget(self.heading)
        box.addWidget(self.sentence)
        box.addSpacing(8)
        for icon, name in STEPS:
            words = QVBoxLayout()
            words.setSpacing(2)
            words.addWidget(self.names[name])
            words.addWidget(self.texts[name])
            across = QHBoxLayout()
            across.setSpacing(16)
            across.addWidget(IconLabel(icon, "accent_text", 24), 0, Qt.AlignmentFlag.AlignTop)
            across.addLayout(words, 1)
            box.addLayout(across)
        middle = QHBoxLayout()
        middle.addStretch(1)
        middle.addWidget(column, 8)
        middle.addStretch(1)
        self.body.addStretch(2)
        self.body.addLayout(middle)
        self.body.addStretch(3)
        self._demo = False
        language_changed.connect(self.retranslate)
        self.retranslate()

    def set_demo(self, demo: bool) -> None:
        """Whether the bundled model and data are the ones that are chosen."""
        self._demo = demo
        self.retranslate()

    def retranslate(self) -> None:
        self.heading.setText(tr("welcome.heading"))
        self.sentence.setText(tr("welcome.demo" if self._demo else "welcome.own"))
        for name, words in self.names.items():
            words.setText(tr(f"welcome.{name}"))
            self.texts[name].setText(tr(f"welcome.{name}_text"))

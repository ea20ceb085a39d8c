"""The card beside a list: what is chosen there and what can be done with it; scrolls where room is short."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from runner_gui.widgets.controls import Card, ElidedLabel, scrolled

WIDTH = 340


class SidePanel(Card):
    """A title, and `column` below it for the rest."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedWidth(WIDTH)
        self.title = ElidedLabel()
        self.title.setObjectName("title")
        inside = QWidget()
        inside.setObjectName("scroll_body")
        self.column = QVBoxLayout(inside)
        self.column.setContentsMargins(0, 0, 8, 0)
        self.column.setSpacing(8)
        self.column.addWidget(self.title)
        scroll = scrolled(inside)
        self.body.addWidget(scroll)

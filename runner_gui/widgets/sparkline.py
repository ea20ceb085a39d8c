"""A small curve of what a number was lately."""

from __future__ import annotations

from collections import deque

from PySide6.QtCore import QPointF, QSize
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QWidget

from runner_gui import theme

LENGTH = 60
_SIZE = QSize(48, 16)


class Sparkline(QWidget):
    """Shares from 0 to 1, the newest at the right."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.values: deque[float] = deque(maxlen=LENGTH)
        self.setFixedSize(_SIZE)
        theme.theme.changed.connect(self.update)

    def append(self, share: float) -> None:
        self.values.append(min(max(share, 0.0), 1.0))
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        height, step = self.height() - 2, self.width() / (LENGTH - 1)
        left = self.width() - step * (len(self.values) - 1)
        points = [QPointF(left + n * step, 1 + height * (1 - v)) for n, v in enumerate(self.values)]
        painter = QPainter(self)
        painter.setPen(QPen(QColor(theme.theme.roles.border), 1))
        painter.drawLine(0, self.height() - 1, self.width(), self.height() - 1)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(theme.color("accent_text"), 1.2))
        painter.drawPolyline(QPolygonF(points))
        painter.end()

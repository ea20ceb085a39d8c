"""The drawing of one curve of a run with pyqtgraph. Imported only after the window is on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QWidget

from runner_gui.theme import color

MARGIN = 0.06
FEW_POINTS = 8  # a young run: the axis shows some room for what comes


@dataclass(frozen=True)
class Curve:
    """What to draw: x are steps; `main` is the accent curve, `raw` the thin grey one behind it, if any."""

    x: np.ndarray
    main: np.ndarray
    raw: np.ndarray | None = None
    points: Sequence[tuple[float, float]] = ()
    marks: Sequence[float] = ()
    seams: Sequence[float] = ()
    log: bool = False
    outliers: bool = True
    total: int | None = None


Line = tuple[np.ndarray, np.ndarray, QColor, Qt.PenStyle]
"""x, y, colour and pattern."""


class Plot(pg.PlotWidget):
    """A calm plot: grid in grey, pens of one pixel, double click shows everything again.

    Signals:
        hovered(float): the cursor is over this step; NaN when it has left.
    """

    hovered = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.setFrameShape(self.Shape.NoFrame)
        self.setMinimumHeight(96)
        # pyqtgraph has no types for what follows.
        self._item: Any = self.getPlotItem()
        self._scene: Any = self.scene()
        self._raw = pg.PlotDataItem()
        self._main = pg.PlotDataItem()
        self._points = pg.ScatterPlotItem(size=8, pen=None)
        self._cross = pg.InfiniteLine(angle=90, movable=False)
        for curve in (self._raw, self._main):
            curve.setDownsampling(auto=True, method="peak")
            curve.setClipToView(True)
            curve.setSkipFiniteCheck(False)
            self._item.addItem(curve)
        self._item.addItem(self._points)
        self._item.addItem(self._cross, ignoreBounds=True)
        self._cross.hide()
        self._marks: list[pg.InfiniteLine] = []
        self._mark_steps: tuple[tuple[float, bool], ...] = ()
        self._follow = True
        self._curve: Curve | None = None
        self._lines: list[pg.PlotDataItem] = []
        self._item.vb.sigRangeChangedManually.connect(self._on_zoomed)
        self._scene.sigMouseMoved.connect(self._on_moved)
        self.apply_theme()

    def apply_theme(self) -> None:
        """Take the colours of the theme in use."""
        self.setBackground(color("card"))
        for name in ("left", "bottom"):
            axis = self._item.getAxis(name)
            axis.setPen(pg.mkPen(color("border_strong")))
            axis.setTextPen(pg.mkPen(color("muted")))
            axis.setStyle(tickLength=-4, tickFont=self.font())
            axis.enableAutoSIPrefix(False)
        self._item.getAxis("left").setWidth(52)
        self._item.showGrid(x=False, y=True, alpha=0.12)
        self._raw.setPen(pg.mkPen(color("curve_raw"), width=1))
        self._main.setPen(pg.mkPen(color("accent_text"), width=1))
        self._points.setBrush(pg.mkBrush(color("point")))
        self._points.setPen(pg.mkPen(color("card"), width=1))
        self._cross.setPen(pg.mkPen(color("muted"), width=1, style=Qt.PenStyle.DotLine))
        for line, (_, seam) in zip(self._marks, self._mark_steps, strict=True):
            line.setPen(self._mark_pen(seam))

    def show_curve(self, curve: Curve) -> None:
        """Draw this; the view follows the data until the person zooms."""
        self._curve = curve
        self._item.setLogMode(x=False, y=curve.log)
        self._main.setLogMode(False, curve.log)
        self._raw.setLogMode(False, curve.log)
        self._main.setData(curve.x, _drawable(curve.main, curve.log), connect="finite")
        if curve.raw is None:
            self._raw.clear()
        else:
            self._raw.setData(curve.x, _drawable(curve.raw, curve.log), connect="finite")
        points = [(x, np.log10(y) if curve.log else y) for x, y in curve.points if not curve.log or y > 0]
        self._points.setData(x=[p[0] for p in points], y=[p[1] for p in points])
        self._show_marks(curve)
        if self._follow:
            self.show_everything()

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Draw these instead of one run's curve, and fit the view to them."""
        while len(self._lines) > len(lines):
            self._item.removeItem(self._lines.pop())
        while len(self._lines) < len(lines):
            line = pg.PlotDataItem()
            line.setDownsampling(auto=True, method="peak")
            line.setClipToView(True)
            self._item.addItem(line)
            self._lines.append(line)
        for item, (x, y, shade, pattern) in zip(self._lines, lines, strict=True):
            # A curve of a single validation is a point, which a line would not show.
            symbol = "o" if len(x) == 1 else None
            item.setPen(pg.mkPen(shade, width=1, style=pattern))
            item.setData(x, _drawable(y, log=False), connect="finite", symbol=symbol, symbolBrush=shade)
        shown = [(x, y) for x, y, *_ in lines if len(x)]
        if not shown:
            self._curve = None
        else:
            x, y = (np.concatenate(parts) for parts in zip(*shown, strict=True))
            order = np.argsort(x, kind="stable")
            self._curve = Curve(x=x[order], main=y[order], outliers=False)
        self.show_everything()

    def show_everything(self) -> None:
        """Fit the view to the data, and keep it fitted."""
        self._follow = True
        curve = self._curve
        if curve is None or not len(curve.x):
            self._item.setRange(xRange=(0, 100), yRange=(0, 1), padding=0)
            return
        low, high = y_range(curve)
        first, last = float(curve.x[0]), float(curve.x[-1])
        if len(curve.x) < FEW_POINTS and curve.total:
            last = max(last, first + min(curve.total, FEW_POINTS))
        self._item.setRange(xRange=(first, max(last, first + 1)), yRange=(low, high), padding=0.02)

    def mouseDoubleClickEvent(self, event: object) -> None:
        self.show_everything()

    def leaveEvent(self, event: object) -> None:
        self._cross.hide()
        self.hovered.emit(float("nan"))

    def _on_zoomed(self, *_: object) -> None:
        self._follow = False

    def _on_moved(self, where: QPointF) -> None:
        if not self._item.vb.sceneBoundingRect().contains(where) or self._curve is None:
            return
        step = self._item.vb.mapSceneToView(where).x()
        self._cross.setPos(step)
        self._cross.show()
        self.hovered.emit(float(step))

    def _show_marks(self, curve: Curve) -> None:
        wanted = tuple([(x, False) for x in curve.marks] + [(x, True) for x in curve.seams])
        if wanted == self._mark_steps:
            return
        for line in self._marks:
            self._item.removeItem(line)
        self._marks = []
        for step, seam in wanted:
            line = pg.InfiniteLine(pos=step, angle=90, movable=False, pen=self._mark_pen(seam))
            line.setZValue(-10)
            self._item.addItem(line, ignoreBounds=True)
            self._marks.append(line)
        self._mark_steps = wanted

    @staticmethod
    def _mark_pen(seam: bool) -> object:
        shade = QColor(color("amber" if seam else "border_strong"))
        return pg.mkPen(shade, width=1, style=Qt.PenStyle.DashLine)


def y_range(curve: Curve) -> tuple[float, float]:
    """The heights to show: everything, or the 1st to 99th percentile where outliers are left out.

    In logarithmic mode the result is in powers of ten, as pyqtgraph wants it.
    """
    parts = [curve.main] + ([] if curve.raw is None else [curve.raw])
    values = np.concatenate([*parts, np.array([y for _, y in curve.points], dtype=float)])
    values = values[np.isfinite(values) & ((values > 0) if curve.log else True)]
    if not len(values):
        return 0.0, 1.0
    if curve.log:
        values = np.log10(values)
    if curve.outliers or len(values) < 50:
        low, high = float(values.min()), float(values.max())
    else:
        low, high = (float(v) for v in np.percentile(values, (1, 99)))
    if high <= low:
        around = abs(low) * 0.1 or 1.0
        return low - around, high + around
    room = (high - low) * MARGIN
    return low - room, high + room


def _drawable(values: np.ndarray, log: bool) -> np.ndarray:
    """A copy that stays as it is while the run goes on, without what a logarithm cannot take."""
    out = np.array(values, dtype=float)
    if log:
        out[~(out > 0)] = np.nan
    return out

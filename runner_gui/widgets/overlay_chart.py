"""The curves of several runs over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QButtonGroup, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.model.series import RunSeries
from runner_gui.widgets.controls import Card, ElidedLabel, button, empty, row

TABS = ("loss", "val_loss", "lr")
# Told apart by colour-blind eyes too, and by the pattern of the line.
COLOR_ROLES = ("accent_text", "point", "green", "red", "muted", "text")
PATTERNS = (
    Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine, Qt.PenStyle.DotLine, Qt.PenStyle.DashDotLine,
    Qt.PenStyle.DashDotDotLine,
)  # fmt: skip
MOST_CURVES = 8


@dataclass(frozen=True)
class NamedSeries:
    """A run's curves and what to call it."""

    name: str
    series: RunSeries


class OverlayChart(Card):
    """Draws runs against their steps; a resumed run is one line. Double click shows everything again."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs: list[NamedSeries] = []
        self._tab = TABS[0]
        self._plot: Any = None  # pyqtgraph has no types
        self.tabs: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        for name in TABS:
            tab = button("tab")
            tab.setCheckable(True)
            tab.clicked.connect(lambda _=False, chosen=name: self.set_tab(chosen))
            group.addButton(tab)
            self.tabs[name] = tab
        self.tabs[self._tab].setChecked(True)
        self.body.addLayout(row(*self.tabs.values(), 1, spacing=4))
        self._space = QVBoxLayout()
        self.body.addLayout(self._space, 1)
        self.legend = QVBoxLayout()
        self.legend.setSpacing(2)
        self.body.addLayout(self.legend)
        self.setMinimumHeight(220)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self._on_theme)
        self.retranslate()

    def load(self) -> None:
        """Make the plot: imports pyqtgraph, which takes a while."""
        if self._plot is None:
            from runner_gui.widgets.plot import Plot

            self._plot = Plot()
            self._space.addWidget(self._plot)
            self._draw()

    def show_runs(self, runs: Sequence[NamedSeries]) -> None:
        """Draw these and no others, the first `MOST_CURVES` of them."""
        self._runs = list(runs)[:MOST_CURVES]
        self._show_legend()
        self._draw()

    def set_tab(self, name: str) -> None:
        self._tab = name
        self.tabs[name].setChecked(True)
        self._draw()

    def save_picture(self, path: Path) -> bool:
        """Write what is drawn, legend included, as a picture; False where that fails."""
        return self.grab().save(str(path))

    def retranslate(self) -> None:
        for name, tab in self.tabs.items():
            tab.setText(tr("numbers.val" if name == "val_loss" else f"chart.{name}"))

    def _on_theme(self) -> None:
        self._show_legend()
        if self._plot is not None:
            self._plot.apply_theme()
            self._draw()

    def _draw(self) -> None:
        if self._plot is None:
            return
        self._plot.show_lines(
            [
                (*self._points(run.series), theme.color(_role(index)), _pattern(index))
                for index, run in enumerate(self._runs)
            ]
        )

    def _points(self, series: RunSeries) -> tuple[np.ndarray, np.ndarray]:
        if self._tab == "val_loss":
            measured = [(point.step, point.loss) for point in series.evals if point.loss is not None]
            points = np.array(measured, dtype=float).reshape(-1, 2)
            return points[:, 0], points[:, 1]
        return np.array(series.steps), np.array(series.smoothed if self._tab == "loss" else series.lr)

    def _show_legend(self) -> None:
        empty(self.legend)
        for index, run in enumerate(self._runs):
            line = ElidedLabel()
            line.setObjectName("caption")
            line.set_full_text(f"{_MARKS[index % len(PATTERNS)]}  {run.name}")
            line.setStyleSheet(f"color: {theme.color(_role(index)).name()}")
            self.legend.addWidget(line)


_MARKS = ("━━", "╍╍", "┄┄", "━·", "━··")


def _role(index: int) -> str:
    return COLOR_ROLES[index % len(COLOR_ROLES)]


def _pattern(index: int) -> Qt.PenStyle:
    return PATTERNS[index % len(PATTERNS)]

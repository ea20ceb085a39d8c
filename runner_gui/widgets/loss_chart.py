"""The chart card: which curve, how smooth, and the read-out; drawn five times a second at most."""

from __future__ import annotations

import math

import numpy as np
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QButtonGroup, QCheckBox, QPushButton, QSizePolicy, QSlider, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.model.series import DEFAULT_SMOOTHING, RunSeries
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import Card, button, label, row

TABS = ("loss", "drift", "lr", "grad_norm", "tok_s", "memory")
DRAW_MS = 200
GIGA = 1e9


class LossChart(Card):
    """Shows one of a run's curves. The plot itself is made by `load`, after the window is visible."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._series = RunSeries()
        self._tab = TABS[0]
        self._dirty = False
        self._plot = None
        self.tabs: dict[str, QPushButton] = {}
        self._group = QButtonGroup(self)
        for name in TABS:
            tab = button("tab")
            tab.setCheckable(True)
            tab.clicked.connect(lambda _=False, chosen=name: self.set_tab(chosen))
            self._group.addButton(tab)
            self.tabs[name] = tab
        self.tabs[self._tab].setChecked(True)
        self.readout = label("caption")
        self.smooth_label = label("caption")
        self.smooth = QSlider(Qt.Orientation.Horizontal)
        self.smooth.setRange(0, 99)
        self.smooth.setValue(round(DEFAULT_SMOOTHING * 100))
        self.smooth.setFixedWidth(96)
        self.smooth_label.setBuddy(self.smooth)
        self.log_scale, self.outliers = QCheckBox(), QCheckBox()
        self.legend = label("caption")
        self._lay_out()
        self.smooth.valueChanged.connect(self._on_smoothing)
        self.log_scale.toggled.connect(self._draw_soon)
        self.outliers.toggled.connect(self._draw_soon)
        self._timer = QTimer(self)
        self._timer.setInterval(DRAW_MS)
        self._timer.timeout.connect(self._on_tick)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self._on_theme)
        self.retranslate()

    def _lay_out(self) -> None:
        self.body.addLayout(row(*self.tabs.values(), 1, spacing=4))
        self.body.addLayout(row(self.legend, 1, self.readout))
        self._space = QWidget()
        self._space.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._space.setMinimumHeight(96)
        self._room = QVBoxLayout(self._space)
        self._room.setContentsMargins(0, 0, 0, 0)
        self.body.addWidget(self._space, 1)
        self.body.addLayout(row(1, self.smooth_label, self.smooth, self.log_scale, self.outliers, spacing=12))

    def load(self) -> None:
        """Make the plot (imports pyqtgraph, which takes a while) and start drawing."""
        if self._plot is None:
            from runner_gui.widgets.plot import Plot

            self._plot = Plot()
            self._plot.hovered.connect(self._on_hovered)
            self._room.addWidget(self._plot)
            self._timer.start()
            self._draw()

    def show_series(self, series: RunSeries) -> None:
        """Show this run from now on."""
        if series is not self._series:
            self._series = series
            series.set_smoothing(self.smooth.value() / 100)
        self._draw_soon()

    def data_changed(self) -> None:
        """The run has more to show; it is drawn at the next tick."""
        self._dirty = True

    def set_tab(self, name: str) -> None:
        """Show another curve."""
        self._tab = name
        self.tabs[name].setChecked(True)
        self._fit_options()
        if self._plot is not None:
            self._draw()
            self._plot.show_everything()

    def retranslate(self) -> None:
        for name, tab in self.tabs.items():
            tab.setText(tr(f"chart.{name}"))
        self.smooth_label.setText(tr("chart.smoothing"))
        self.smooth.setAccessibleName(tr("chart.smoothing"))
        self.log_scale.setText(tr("chart.log"))
        self.outliers.setText(tr("chart.outliers"))
        self._fit_options()

    def _fit_options(self) -> None:
        is_loss = self._tab == "loss"
        self.smooth.setVisible(is_loss)
        self.smooth_label.setVisible(is_loss)
        self.log_scale.setVisible(self._tab in ("loss", "grad_norm"))
        self.outliers.setVisible(self._tab in ("loss", "grad_norm", "tok_s"))
        self._show_legend()

    def _show_legend(self) -> None:
        """The legend names shapes as well as colours."""
        if self._tab != "loss":
            self.legend.setText(tr("chart.drift_help" if self._tab == "drift" else "chart.by_step"))
            return
        parts = [
            ("accent_text", "━", tr("chart.legend_smoothed")),
            ("muted", "─", tr("chart.legend_raw")),
            ("point", "●", tr("chart.legend_val")),
            ("muted", "┆", tr("chart.legend_checkpoint")),
        ]
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.legend.setText(
            "&nbsp;&nbsp;&nbsp; ".join(
                f'<span style="color:{theme.color(role).name()}">{mark}</span>&nbsp;{words}'
                for role, mark, words in parts
            )
        )

    def _on_theme(self) -> None:
        self._show_legend()
        if self._plot is not None:
            self._plot.apply_theme()

    def _on_smoothing(self, percent: int) -> None:
        self._series.set_smoothing(percent / 100)
        self._draw_soon()

    def _draw_soon(self) -> None:
        self._dirty = True
        if self._plot is not None and not self._timer.isActive():
            self._timer.start()

    def _on_tick(self) -> None:
        if self._dirty and self.isVisible():
            self._draw()

    def _draw(self) -> None:
        from runner_gui.widgets.plot import Curve

        self._dirty = False
        if self._plot is None:
            return
        series = self._series
        raw = None
        main = self._column()
        if self._tab == "loss":
            main, raw = series.smoothed, series.loss
        is_loss = self._tab == "loss"
        self._plot.show_curve(
            Curve(
                x=np.array(self._steps()),
                main=main,
                raw=raw,
                points=[(p.step, p.loss) for p in series.evals if p.loss is not None] if is_loss else (),
                marks=[c.step for c in series.checkpoints],
                seams=series.seams,
                log=self.log_scale.isChecked() and self._tab in ("loss", "grad_norm"),
                outliers=self.outliers.isChecked() or self._tab in ("lr", "memory"),
                total=series.total,
            )
        )

    def _steps(self) -> np.ndarray:
        if self._tab == "drift":
            return np.array([step for step, _ in self._series.drifts], dtype=np.float64)
        return self._series.steps

    def _column(self) -> np.ndarray:
        series = self._series
        if self._tab == "drift":
            return np.array([kl for _, kl in series.drifts], dtype=np.float64)
        return {
            "loss": series.loss,
            "lr": series.lr,
            "grad_norm": series.grad_norm,
            "tok_s": series.tok_s,
            "memory": series.mem_bytes / GIGA,
        }[self._tab]

    def _on_hovered(self, step: float) -> None:
        steps = self._steps()
        if not math.isfinite(step) or not len(steps):
            self.readout.setText("")
            return
        index = int(np.clip(np.searchsorted(steps, step), 0, len(steps) - 1))
        if index and abs(steps[index - 1] - step) < abs(steps[index] - step):
            index -= 1
        value = float(self._column()[index])
        texts = {
            "loss": fmt.loss,
            "drift": fmt.rate,
            "lr": fmt.rate,
            "grad_norm": fmt.loss,
            "tok_s": fmt.whole,
        }
        shown = fmt.size(value * GIGA) if self._tab == "memory" else texts[self._tab](value)
        args = {"step": fmt.whole(steps[index]), "value": shown}
        if self._tab == "loss":
            args["smoothed"] = fmt.loss(float(self._series.smoothed[index]))
            self.readout.setText(tr("chart.readout_loss", **args))
        else:
            self.readout.setText(tr("chart.readout", **args))

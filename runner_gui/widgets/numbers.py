"""The strip of live numbers: step, loss, validation, learning rate, tokens a second, time left, memory."""

from __future__ import annotations

from collections.abc import Mapping

from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.series import RunSeries
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import label

FIELDS = ("step", "loss", "val", "lr", "tok_s", "left", "memory")
# Before this many steps of this process the time left is a guess that only misleads.
ETA_AFTER_STEPS = 10


class NumbersStrip(QWidget):
    """Shows the last values of a run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        box = QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(8)
        self.captions = {name: label("caption") for name in FIELDS}
        self.values = {name: label("value") for name in FIELDS}
        for name in FIELDS:
            column = QVBoxLayout()
            column.setSpacing(2)
            column.addWidget(self.captions[name])
            column.addWidget(self.values[name])
            box.addLayout(column, 3 if name == "step" else 2)
        self._series: RunSeries | None = None
        self._live = False
        language_changed.connect(self.retranslate)
        self.retranslate()

    def retranslate(self) -> None:
        for name, caption in self.captions.items():
            caption.setText(tr(f"numbers.{name}"))
        self.show_series(self._series, live=self._live)

    def show_series(self, series: RunSeries | None, *, live: bool) -> None:
        """Show where this run stands, dashes where nothing is known; only what is `live` has time left."""
        self._series, self._live = series, live
        for name, text in self._texts(series, live).items():
            self.values[name].setText(text)
            self.values[name].setAccessibleName(f"{self.captions[name].text()} {text}")

    @staticmethod
    def _texts(series: RunSeries | None, live: bool) -> Mapping[str, str]:
        if series is None or series.last is None:
            return dict.fromkeys(FIELDS, fmt.NONE)
        last = series.last
        total = series.total
        left = fmt.NONE
        if live and series.status == "running":
            known = series.session_steps >= ETA_AFTER_STEPS and last.get("eta_s") is not None
            left = fmt.duration(last.get("eta_s")) if known else tr("numbers.estimating")
        return {
            "step": fmt.whole(last["step"]) + (f" / {fmt.whole(total)}" if total else ""),
            "loss": fmt.loss(last.get("loss")),
            "val": fmt.loss(series.evals[-1].loss if series.evals else None),
            "lr": fmt.rate(last.get("lr")),
            "tok_s": fmt.whole(last.get("tok_s")),
            "left": left,
            "memory": fmt.size(last.get("mem_bytes")),
        }

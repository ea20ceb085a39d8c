"""What a run would need beside what there is: a bar, two lines, and a button that makes it fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import button, label, restyle, row

# Of what is free: above this the rest of the computer feels it.
CLOSE_SHARE = 0.85
_BAR_STEPS = 1000


class EstimatePanel(QWidget):
    """Empty until an estimate comes.

    Signals:
        changes_chosen: parameters by name, to be taken over.
    """

    changes_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.memory, self.time = label("caption", wrap=True), label("caption", wrap=True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setRange(0, _BAR_STEPS)
        self.warning = label(wrap=True)
        self.fix = button("link")
        self._found: Mapping[str, Any] | None = None
        self._total_steps: int | None = None
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self.memory, self.bar, self.time, self.warning):
            column.addWidget(widget)
        column.addLayout(row(self.fix, 1))
        self.fix.clicked.connect(self._on_fix)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_estimate(self, found: Mapping[str, Any]) -> None:
        """Show what `rwkv-trainer estimate` has found."""
        self._found = found
        self.retranslate()

    def show_total_steps(self, steps: int | None) -> None:
        """The run's steps as its data has told, for whole passes over it."""
        self._total_steps = steps
        self.retranslate()

    def clear(self) -> None:
        """There is nothing to estimate."""
        self._found = None
        self.retranslate()

    @property
    def tone(self) -> str:
        """ "red": it does not fit; "amber": it nearly does not; else ""."""
        if self._found is None:
            return ""
        if not self._found["fits"]:
            return "red"
        return "amber" if self._found["total_bytes"] > CLOSE_SHARE * self._found["available_bytes"] else ""

    def retranslate(self) -> None:
        found = self._found
        self.setVisible(found is not None)
        if found is None:
            return
        need = found["total_bytes"] if found["fits"] else found["least_bytes"]
        self.memory.setText(
            tr(
                "estimate.memory",
                need=fmt.size(need),
                free=fmt.size(found["available_bytes"]),
                device=found["device_name"],
            )
        )
        self.memory.setToolTip(tr("estimate.room", n=fmt.whole(found["largest_tokens"])))
        self.bar.setValue(min(_BAR_STEPS, round(_BAR_STEPS * need / max(1, found["available_bytes"]))))
        self.bar.setAccessibleName(self.memory.text())
        restyle(self.bar, "tone", self.tone)
        self.time.setText(self._time(found))
        self.warning.setText(self._warning(found))
        self.warning.setObjectName(self.tone)
        restyle(self.warning, "tone", self.tone)
        self.warning.setVisible(bool(self.tone))
        self.fix.setText(tr("estimate.fix"))
        self.fix.setVisible(bool(found["changes"]))

    def _time(self, found: Mapping[str, Any]) -> str:
        steps = found["total_steps"] if found["total_steps"] is not None else self._total_steps
        if found["step_s"] is None or steps is None:
            return tr("estimate.no_time")
        rate = fmt.whole(found["tok_s"])
        return tr("estimate.time", time=fmt.duration(found["step_s"] * steps), rate=rate)

    def _warning(self, found: Mapping[str, Any]) -> str:
        if not self.tone:
            return ""
        if found["fits"]:
            return f"⚠ {tr('estimate.close')}"
        if not found["changes"]:
            return f"✕ {tr('estimate.nothing_fits')}"
        changes = tr("list.separator").join(map(_change, found["changes"].items()))
        return f"✕ {tr('estimate.too_much', changes=changes)}"

    def _on_fix(self) -> None:
        if self._found is not None and self._found["changes"]:
            self.changes_chosen.emit(dict(self._found["changes"]))


def _change(change: tuple[str, Any]) -> str:
    name, value = change
    words = tr(f"param.{name}.label")
    if value is True:
        return words
    return f"{words} {fmt.whole(value) if isinstance(value, int) else tr(f'choice.{name}.{value}')}"

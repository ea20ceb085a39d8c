"""The head of a run: name, where it stands, how far it is, its numbers, and the quiet buttons."""

from __future__ import annotations

import time

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QProgressBar, QWidget

from runner_gui.i18n import has, language_changed, tr
from runner_gui.model.series import RunSeries
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import Card, ElidedLabel, IconLabel, button, label, row
from runner_gui.widgets.numbers import NumbersStrip

# Work that lasts longer than this says for how long it has been going on.
ELAPSED_AFTER_S = 10
_LOOKS = {
    "working": ("dot", "accent_text"),
    "running": ("dot", "accent_text"),
    "paused": ("pause", "amber"),
    "completed": ("check", "green"),
    "stopped": ("stop", "muted"),
    "interrupted": ("warning", "amber"),
    "failed": ("error", "red"),
    "killed": ("error", "red"),
}


class RunCard(Card):
    """Shows one run.

    Signals:
        save_requested(), pause_requested(), resume_requested(): the quiet buttons.
    """

    save_requested = Signal()
    pause_requested = Signal()
    resume_requested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = ElidedLabel()
        self.name.setObjectName("title")
        self.icon, self.status = IconLabel("ring", "muted"), label("muted")
        self.save, self.pause = button(), button()
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.numbers = NumbersStrip()
        head = row(self.name, self.icon, self.status, self.save, self.pause)
        head.setStretch(0, 1)
        self.body.addLayout(head)
        self.body.addWidget(self.progress)
        self.body.addSpacing(2)
        self.body.addWidget(self.numbers)
        self._series = RunSeries()
        self._status, self._work = "", ""
        self._paused = False
        self._since = time.monotonic()
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self._show_status)
        self.save.clicked.connect(self.save_requested)
        self.pause.clicked.connect(self._on_pause)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_run(self, name: str, series: RunSeries, status: str) -> None:
        """Show this run; `status` is one of a run folder's, or "working" before it has one."""
        self._series, self._status, self._paused = series, status, series.phase == "paused"
        self.name.set_full_text(name)
        self._restart_clock()
        self.refresh()

    def set_work(self, key: str) -> None:
        """The catalogue key of what is being done now."""
        if key != self._work:
            self._work = key
            self._restart_clock()
            self._show_status()

    def refresh(self) -> None:
        """Show the run's newest numbers."""
        series = self._series
        self._paused = series.phase == "paused"
        self.numbers.show_series(series, live=self._status == "running")
        self._show_progress()
        self._show_status()
        live = self._status == "running"
        self.save.setVisible(live)
        self.pause.setVisible(live)
        self.save.setEnabled(series.last is not None)
        self.pause.setEnabled(series.last is not None)
        self.pause.setText(tr("run.go_on" if self._paused else "run.pause"))

    def retranslate(self) -> None:
        self.save.setText(tr("run.save_now"))
        self.save.setToolTip(tr("run.save_now_help"))
        self.pause.setToolTip(tr("run.pause_help"))
        self.progress.setAccessibleName(tr("run.progress"))
        self.refresh()

    def _show_progress(self) -> None:
        series, last = self._series, self._series.last
        event = series.progress
        active = self._status in ("running", "working")
        if active and event is not None and event.get("total"):
            self.progress.setRange(0, 1000)
            self.progress.setValue(round(1000 * event["done"] / event["total"]))
        elif last is not None and series.total:
            self.progress.setRange(0, series.total)
            self.progress.setValue(last["step"])
        else:
            self.progress.setRange(0, 0 if active else 1)

    def _show_status(self) -> None:
        shown = "paused" if self._paused and self._status == "running" else self._status
        icon, role = _LOOKS.get(shown, ("ring", "muted"))
        self.icon.set_icon(icon, role)
        words = tr(f"status.{shown}") if shown else ""
        phase = self._series.phase
        if shown in ("running", "working"):
            if phase and has(f"phase.{phase}"):
                words = tr(f"phase.{phase}")
            elif self._work:
                words = tr(self._work)
            elapsed = time.monotonic() - self._since
            if self._series.last is None and elapsed > ELAPSED_AFTER_S:
                words = f"{words} · {fmt.duration(elapsed)}"
            if not self._clock.isActive():
                self._clock.start()
        else:
            self._clock.stop()
        self.status.setText(words)

    def _restart_clock(self) -> None:
        self._since = time.monotonic()

    def _on_pause(self) -> None:
        (self.resume_requested if self._paused else self.pause_requested).emit()

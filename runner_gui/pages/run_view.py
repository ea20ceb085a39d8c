"""Everything that shows one run: its card, chart, checkpoints and log, fed by files and live events."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QButtonGroup, QPushButton, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from runner_gui.i18n import has, language_changed, tr
from runner_gui.model.series import CheckpointRow, RunSeries
from runner_gui.services.background import Background
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.checkpoint_table import CheckpointTable, TableRow
from runner_gui.widgets.controls import Card, button, row
from runner_gui.widgets.log_view import LogView
from runner_gui.widgets.loss_chart import LossChart
from runner_gui.widgets.problem_text import problem_line
from runner_gui.widgets.run_card import RunCard
from runner_gui.widgets.samples_view import SamplesView
from trainer.contract.errors import CODES, Problem
from trainer.contract.events import Event
from trainer.contract.run_folder import RunFolder

LOG = logging.getLogger(__name__)
REFRESH_MS = 200
TABS = ("checkpoints", "samples", "log")


class RunView(QWidget):
    """The right-hand side of the Train page while there is a run.

    Signals:
        series_changed(): the run has gone on.
    """

    series_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.card, self.chart = RunCard(), LossChart()
        self.checkpoints, self.log = CheckpointTable(), LogView()
        self.samples = SamplesView()
        self.folder: RunFolder | None = None
        self.series = RunSeries()
        self.status = ""
        self._waiting: list[Event] = []
        self._loading = False
        self._can_continue = True
        self._background = Background(self)
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_MS)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._refresh)
        self._lay_out()
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _lay_out(self) -> None:
        self.below = Card()
        self.tabs: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        self._pages = QStackedWidget()
        for name, page in zip(TABS, (self.checkpoints, self.samples, self.log), strict=True):
            tab = button("tab")
            tab.setCheckable(True)
            tab.clicked.connect(lambda _=False, chosen=name: self.set_tab(chosen))
            group.addButton(tab)
            self.tabs[name] = tab
            self._pages.addWidget(page)
        self.below.body.addLayout(row(*self.tabs.values(), 1, spacing=4))
        self.below.body.addWidget(self._pages, 1)
        self.set_tab(TABS[0])
        for card, height in ((self.chart, 216), (self.below, 160)):
            card.setMinimumHeight(height)
            card.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self.card)
        column.addWidget(self.chart, 5)
        column.addWidget(self.below, 3)

    def set_tab(self, name: str) -> None:
        """Show the checkpoints, the samples or the log."""
        self.tabs[name].setChecked(True)
        self._pages.setCurrentIndex(TABS.index(name))

    def show_work(self, key: str) -> None:
        """Before there is a run: what is being done."""
        self.folder = None
        self._take(RunSeries(), "working", tr("run.new"))
        self.card.set_work(key)

    def show_run(self, folder: RunFolder, status: str) -> None:
        """Show this run from its folder; what arrives live while it is read is kept."""
        if self.folder is not None and self.folder.path == folder.path and self.status == status:
            return
        self.folder = folder
        self.log.clear()
        self.log.set_file(folder.log)
        self._waiting, self._loading = [], True
        self._take(RunSeries(), status, folder.run_id)
        self.card.set_work("phase.starting")
        self._background.submit(
            lambda: RunSeries.from_file(folder.events), lambda series: self._on_loaded(folder, series)
        )

    def set_status(self, status: str) -> None:
        self.status = status
        self._take(self.series, status, self.folder.run_id if self.folder else tr("run.new"))

    def set_can_continue(self, can: bool) -> None:
        self._can_continue = can
        self._refresh()

    def take_event(self, event: Event) -> None:
        """One live event of the run."""
        if self._loading:
            self._waiting.append(event)
            return
        self.series.append(event)
        if line := self._line(event):
            self.log.append(f"{time.strftime('%H:%M:%S', time.localtime(event.ts))}  {line}")
        if not self._timer.isActive():
            self._timer.start()

    def close_files(self) -> None:
        """End the reading thread."""
        self._timer.stop()
        self._background.close()

    def retranslate(self) -> None:
        self._refresh()

    def _on_loaded(self, folder: RunFolder, series: RunSeries | Exception) -> None:
        if self.folder is None or folder.path != self.folder.path:
            return
        if isinstance(series, Exception):
            LOG.error("the events of %s cannot be read: %s", folder.path, series)
            series = RunSeries()
        self._loading = False
        self._take(series, self.status, folder.run_id)
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self.take_event(event)
        self._refresh()

    def _take(self, series: RunSeries, status: str, name: str) -> None:
        self.series, self.status = series, status
        self.card.show_run(name, series, status)
        self.chart.show_series(series)
        self._refresh()

    def _refresh(self) -> None:
        self.card.refresh()
        self.chart.data_changed()
        rows = self._rows()
        self.checkpoints.show_rows(rows, can_continue=self._can_continue)
        self.samples.show_samples(self.series.samples)
        counts = {"checkpoints": len(rows), "samples": len(self.series.samples)}
        for name, tab in self.tabs.items():
            count = counts.get(name)
            tab.setText(tr(f"tabs.{name}") + (f" {count}" if count else ""))
        self.series_changed.emit()

    def _rows(self) -> list[TableRow]:
        """The checkpoints that are still there; the trainer removes older ones as it saves."""
        rows = [self._row(point) for point in self.series.checkpoints]
        return rows if self.folder is None else [row for row in rows if row.created_ts is not None]

    def _row(self, point: CheckpointRow) -> TableRow:
        """The checkpoint with its whole path (events name it inside the run folder) and its time."""
        path = point.path if self.folder is None else str(self.folder.path / point.path)
        return TableRow(replace(point, path=path), _written(path))

    @staticmethod
    def _line(event: Event) -> str:
        """The log's line for an event, empty for those that other places show."""
        if event.t == "phase" and has(f"phase.{event.get('name')}"):
            return tr(f"phase.{event['name']}")
        if event.t == "checkpoint":
            return tr("log.checkpoint", step=event["step"], size=fmt.size(event.get("bytes")))
        if event.t == "eval":
            return tr("log.eval", step=event["step"], loss=fmt.loss(event.get("loss")))
        if event.t in ("warning", "error") and event.get("code") in CODES:
            args = event.get("args") or {}
            return problem_line(Problem(event["code"], args, args.get("param")))
        return ""


def _written(path: str) -> float | None:
    try:
        return Path(path, "meta.json").stat().st_mtime
    except OSError:
        return None

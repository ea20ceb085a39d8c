"""What was trained before: find it, compare it, go on from it, throw it away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QLineEdit,
    QSplitter,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from runner_gui.i18n import has, language_changed, tr
from runner_gui.model.history import HistoryRow, differences, history
from runner_gui.model.run_store import RunStore, last_checkpoint
from runner_gui.model.series import RunSeries
from runner_gui.services.background import Background
from runner_gui.services.run_export import export_csv
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, Notice
from runner_gui.widgets.controls import Card, button, empty, label, row
from runner_gui.widgets.dialogs import Question
from runner_gui.widgets.overlay_chart import MOST_CURVES, NamedSeries, OverlayChart
from runner_gui.widgets.run_table import RunTable
from runner_gui.widgets.run_words import RunWords
from runner_gui.widgets.side_panel import SidePanel
from trainer.contract.errors import AppError
from trainer.contract.events import Event, read_events
from trainer.contract.run_folder import RunFolder, safe_name

LOG = logging.getLogger(__name__)
REFRESH_MS = 2000
ACTIONS = ("open", "resume", "clone", "show", "csv", "png", "delete")
FOR_ONE = ("open", "resume", "clone", "show", "csv")


class RunsPage(QWidget):
    """The history: a list, the curves of what is selected in it, and what can be done with that.

    Signals:
        open_requested(object), resume_requested(object): a RunFolder, to be shown or to be gone on with.
        clone_requested(object): the parameters of a run, to be put into the form.
    """

    open_requested = Signal(object)
    resume_requested = Signal(object)
    clone_requested = Signal(object)

    def __init__(self, store: RunStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self._store = store
        self._busy = False
        self._series: dict[str, RunSeries] = {}
        self._background = Background(self)
        self.heading, self.count = label("heading"), label("muted")
        self.search = QLineEdit()
        self.search.setClearButtonEnabled(True)
        self.search.setFixedWidth(260)
        self.banner, self.table, self.chart = Banner(), RunTable(), OverlayChart()
        self.side, self.words = SidePanel(), RunWords()
        self.buttons = {name: button("danger" if name == "delete" else "") for name in ACTIONS}
        self.question: Question | None = None
        self._lay_out()
        self._connect()
        self.retranslate()
        self._show_selection()

    def _lay_out(self) -> None:
        self.empty_words = label("muted", wrap=True)
        self.empty_words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        listed = Card()
        self._list = QStackedWidget()
        self._list.addWidget(self.empty_words)
        self._list.addWidget(self.table)
        listed.body.addWidget(self._list)
        below = QWidget()
        self._fill_side()
        across = row(self.chart, self.side, spacing=12)
        across.setStretch(0, 1)
        below.setLayout(across)
        split = QSplitter(Qt.Orientation.Vertical)
        split.setChildrenCollapsible(False)
        split.addWidget(listed)
        split.addWidget(below)
        split.setSizes([320, 360])
        split.setHandleWidth(12)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(12)
        column.addLayout(row(self.heading, self.count, 1, self.search, spacing=12))
        column.addWidget(self.banner)
        column.addWidget(split, 1)

    def _fill_side(self) -> None:
        grid = QGridLayout()
        grid.setSpacing(6)
        for index, shown in enumerate(self.buttons.values()):
            grid.addWidget(shown, index // 2, index % 2)
        self.differing = label("step_name")
        self._differences = QVBoxLayout()
        self._differences.setSpacing(4)
        self.side.column.addWidget(self.words)
        self.side.column.addLayout(grid)
        self.side.column.addWidget(self.differing)
        self.side.column.addLayout(self._differences)
        self.side.column.addStretch(1)

    def _connect(self) -> None:
        self.search.textChanged.connect(self.table.set_words)
        self.table.chosen.connect(self._show_selection)
        self.table.opened.connect(lambda chosen: self.open_requested.emit(chosen.info.folder))
        self.words.kept.connect(self.refresh)
        self.words.failed.connect(lambda problem: self.banner.show_notice(Notice("error", problem=problem)))
        for name, work in {
            "open": lambda: self._with_one(lambda one: self.open_requested.emit(one.info.folder)),
            "resume": lambda: self._with_one(lambda one: self.resume_requested.emit(one.info.folder)),
            "clone": lambda: self._with_one(lambda one: self.clone_requested.emit(one.info.record.params)),
            "show": lambda: self._with_one(self._show_in_folder),
            "csv": lambda: self._with_one(self._ask_csv),
            "png": self._ask_png,
            "delete": self.ask_delete,
        }.items():
            self.buttons[name].clicked.connect(work)
        QShortcut(QKeySequence(QKeySequence.StandardKey.Delete), self.table, self.ask_delete).setContext(
            Qt.ShortcutContext.WidgetShortcut
        )
        self._refresh_timer = QTimer(self)
        self._refresh_timer.setInterval(REFRESH_MS)
        self._refresh_timer.timeout.connect(self._refresh_if_shown)
        self._refresh_timer.start()
        language_changed.connect(self.retranslate)

    # What is shown

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self, self._first_look)

    def _first_look(self) -> None:
        self.chart.load()
        self.refresh()

    def _refresh_if_shown(self) -> None:
        if self.isVisible():
            self.refresh()

    def refresh(self) -> None:
        """Look at the run folders again, in the background."""
        self._background.submit(lambda: history(self._store), self._take_rows)

    def _take_rows(self, rows: list[HistoryRow] | Exception) -> None:
        if isinstance(rows, Exception):
            LOG.error("the runs cannot be read: %s", rows)
            return
        if self.table.show_rows(rows):
            self._show_selection()
        self._list.setCurrentIndex(1 if rows else 0)
        self.count.setText(fmt.whole(len(rows)) if rows else "")
        if not self.table.selected() and self.table.shown:
            self.table.selectRow(0)
        self._read_on()

    def set_busy(self, busy: bool) -> None:
        """While something is under way, no other run can be resumed and no settings taken."""
        self._busy = busy
        self._show_selection()

    def close_files(self) -> None:
        """Keep what was typed; end the timers and the reading thread."""
        self.words.keep()
        self._refresh_timer.stop()
        self._background.close()

    def _show_selection(self) -> None:
        chosen = self.table.selected()
        one = chosen[0] if len(chosen) == 1 else None
        self.side.title.set_full_text(
            one.name if one else tr("runs.selected", count=fmt.whole(len(chosen))) if chosen else ""
        )
        self.words.setVisible(one is not None)
        self.words.show_run(None if one is None else one.info.folder)
        for name, shown in self.buttons.items():
            shown.setEnabled(bool(chosen) if name not in FOR_ONE else one is not None)
        if one is not None:
            goes_on = one.info.status in ("stopped", "interrupted", "failed")
            self.buttons["resume"].setEnabled(
                goes_on and not self._busy and last_checkpoint(one.info.folder) is not None
            )
        self.buttons["clone"].setEnabled(one is not None and not self._busy)
        self.buttons["delete"].setEnabled(any(c.info.status != "running" for c in chosen))
        self._show_differences(chosen)
        self._show_curves(chosen[:MOST_CURVES])

    def _show_differences(self, chosen: Sequence[HistoryRow]) -> None:
        empty(self._differences)
        found = differences(chosen[:MOST_CURVES])
        self.differing.setVisible(len(chosen) > 1)
        self.differing.setText(tr("runs.differences" if found else "runs.no_differences"))
        for name, values in found:
            caption, shown = label("caption", wrap=True), label(wrap=True)
            key = f"param.{name}.label"
            caption.setText(tr(key) if has(key) else name)
            shown.setText("  ·  ".join(_value(value) for value in values))
            shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._differences.addWidget(caption)
            self._differences.addWidget(shown)

    def _show_curves(self, chosen: Sequence[HistoryRow]) -> None:
        self._draw_chosen()
        for one in chosen:
            if one.run_id not in self._series:
                self._series[one.run_id] = RunSeries()
                self._background.submit(
                    lambda path=one.info.folder.events: RunSeries.from_file(path),
                    lambda series, run_id=one.run_id: self._take_series(run_id, series),
                )

    def _take_series(self, run_id: str, series: RunSeries | Exception) -> None:
        if isinstance(series, Exception):
            LOG.error("the events of %s cannot be read: %s", run_id, series)
            return
        self._series[run_id] = series
        self._draw_chosen()

    def _read_on(self) -> None:
        """Take in what the runs that are shown have written since; never again what was read before."""
        for one in self.table.selected()[:MOST_CURVES]:
            series = self._series.get(one.run_id)
            if series is not None and 0 < series.read_bytes < _size(one.info.folder.events):
                self._background.submit(
                    lambda path=one.info.folder.events, start=series.read_bytes: read_events(path, start),
                    lambda more, series=series: self._take_more(series, more),
                )

    def _take_more(self, series: RunSeries, more: tuple[list[Event], int] | Exception) -> None:
        if isinstance(more, Exception):
            return  # it is read again with the next look
        events, end = more
        if events and end > series.read_bytes:
            series.extend(events)
            series.read_bytes = end
            self._draw_chosen()

    def _draw_chosen(self) -> None:
        chosen = self.table.selected()[:MOST_CURVES]
        self.chart.show_runs(
            [NamedSeries(c.name, self._series[c.run_id]) for c in chosen if c.run_id in self._series]
        )

    # What can be done

    def _with_one(self, work: Any) -> None:
        chosen = self.table.selected()
        if len(chosen) == 1:
            work(chosen[0])

    def _show_in_folder(self, one: HistoryRow) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(one.info.folder.path)))

    def _ask_csv(self, one: HistoryRow) -> None:
        path = self._ask_file(f"{safe_name(one.name)}.csv", "CSV (*.csv)")
        if path is not None:
            self.save_csv(one, path)

    def _ask_png(self) -> None:
        path = self._ask_file("runs.png", "PNG (*.png)")
        if path is not None:
            self.save_png(path)

    def _ask_file(self, name: str, kind: str) -> Path | None:
        chosen, _ = QFileDialog.getSaveFileName(self.window(), tr("runs.export"), name, kind)
        return Path(chosen) if chosen else None

    def save_csv(self, one: HistoryRow, path: Path) -> None:
        """Write a run's curves as a table, in the background."""
        events = one.info.folder.events
        self._background.submit(
            lambda: export_csv(RunSeries.from_file(events), path), lambda failed: self._saved(path, failed)
        )

    def save_png(self, path: Path) -> None:
        """Write the chart as a picture."""
        done = self.chart.save_picture(path)
        failed = None if done else AppError("not_writable", path=str(path), reason="PNG")
        self._saved(path, failed)

    def _saved(self, path: Path, failed: Exception | None) -> None:
        if isinstance(failed, AppError):
            self.banner.show_notice(Notice("error", problem=failed.problem))
        elif failed is not None:
            error = AppError("not_writable", path=str(path), reason=str(failed))
            self.banner.show_notice(Notice("error", problem=error.problem))
        else:
            self.banner.show_notice(Notice("success", "exported", {"name": path.name}))

    def ask_delete(self) -> Question | None:
        """Ask whether to delete what is selected, telling what that frees; runs that go on stay."""
        doomed = [c.info.folder for c in self.table.selected() if c.info.status != "running"]
        if not doomed:
            return None
        freed = fmt.size(sum(folder.bytes_on_disk() for folder in doomed))
        count = fmt.whole(len(doomed))
        self.question = Question("delete_runs", ("delete", "keep"), self.window(), count=count, size=freed)
        self.question.answered.connect(lambda answer: self._delete(doomed) if answer == "delete" else None)
        self.question.finished.connect(self.question.deleteLater)
        self.question.open()
        return self.question

    def _delete(self, folders: Sequence[RunFolder]) -> None:
        for folder in folders:
            self._series.pop(folder.run_id, None)
            self._background.submit(
                lambda folder=folder: self._store.delete(folder),
                lambda failed, folder=folder: self._gone(folder, failed),
            )

    def _gone(self, folder: RunFolder, failed: Exception | None) -> None:
        if isinstance(failed, AppError):
            self.banner.show_notice(Notice("error", problem=failed.problem))
        elif failed is not None:
            error = AppError("not_writable", path=str(folder.path), reason=str(failed))
            self.banner.show_notice(Notice("error", problem=error.problem))
        self.refresh()

    def retranslate(self) -> None:
        self.heading.setText(tr("page.runs"))
        self.search.setPlaceholderText(tr("runs.search"))
        self.search.setAccessibleName(tr("runs.search"))
        self.empty_words.setText(tr("runs.empty"))
        for name, shown in self.buttons.items():
            shown.setText(tr(f"runs.do_{name}"))
        self._show_selection()


def _value(value: Any) -> str:
    if isinstance(value, float):
        return fmt.rate(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or fmt.NONE
    return str(value) if value not in (None, "") else fmt.NONE


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

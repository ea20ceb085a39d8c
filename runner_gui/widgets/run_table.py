"""The list of runs, newest first at the start."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from runner_gui.i18n import tr
from runner_gui.model.history import HistoryRow
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.record_table import Column, Records, RecordTable

STATUS_ROLES = {"running": "accent_text", "completed": "green", "failed": "red", "interrupted": "amber"}
STATUS_MARKS = {"running": "●", "completed": "✓", "failed": "✕", "interrupted": "⚠", "stopped": "■"}


def _status(row: HistoryRow) -> str:
    return f"{STATUS_MARKS[row.info.status]} {tr(f'status.{row.info.status}')}"


def _steps(row: HistoryRow) -> str:
    return f"{fmt.whole(row.step)} / {fmt.whole(row.info.record.total_steps)}"


COLUMNS = (
    Column("runs.name", lambda row: row.name, stretches=True),
    Column("runs.status", _status, color=lambda row: STATUS_ROLES.get(row.info.status, "muted")),
    Column("runs.base", lambda row: row.info.record.base_name, stretches=True, fits_from=760),
    Column("runs.steps", _steps, lambda row: row.step),
    Column("runs.loss", lambda row: fmt.loss(row.loss), lambda row: row.loss),
    Column("runs.val", lambda row: fmt.loss(row.best_val_loss), lambda row: row.best_val_loss),
    Column(
        "runs.started",
        lambda row: fmt.moment(row.info.record.created_ts),
        lambda row: row.info.record.created_ts,
        left=True,
    ),
    Column("runs.took", lambda row: fmt.duration(row.seconds), lambda row: row.seconds),
)
STARTED = 6


class RunTable(RecordTable):
    """Rows are `HistoryRow`s."""

    def __init__(self, parent: QWidget | None = None) -> None:
        records = Records(lambda row: row.run_id, lambda row: row.words, lambda row: row.notes.note)
        super().__init__(COLUMNS, records, "page.runs", parent)
        self.sortByColumn(STARTED, Qt.SortOrder.DescendingOrder)

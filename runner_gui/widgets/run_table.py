"""The list of runs: one line each, sorted by any column, filtered by words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QDateTime,
    QLocale,
    QModelIndex,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from runner_gui import theme
from runner_gui.i18n import language, language_changed, tr
from runner_gui.model.history import HistoryRow
from runner_gui.widgets import numbers_format as fmt

COLUMNS = ("name", "status", "base", "steps", "loss", "val", "started", "took")
NUMBERS = ("steps", "loss", "val", "took")
ROW_HEIGHT = 34
STATUS_ROLES = {"running": "accent_text", "completed": "green", "failed": "red", "interrupted": "amber"}
STATUS_MARKS = {"running": "●", "completed": "✓", "failed": "✕", "interrupted": "⚠", "stopped": "■"}
SORT_ROLE = Qt.ItemDataRole.UserRole
Index = QModelIndex | QPersistentModelIndex
NO_PARENT = QModelIndex()
RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


class RunTableModel(QAbstractTableModel):
    """Rows of a history."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[HistoryRow] = []

    def show_rows(self, rows: Sequence[HistoryRow]) -> None:
        same = [row.run_id for row in rows] == [row.run_id for row in self.rows]
        if same:  # a reset would lose what is selected, and where the list was scrolled to
            self.rows = list(rows)
            if rows:
                self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, len(COLUMNS) - 1))
            return
        self.beginResetModel()
        self.rows = list(rows)
        self.endResetModel()

    def rowCount(self, parent: Index = NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = NO_PARENT) -> int:
        return 0 if parent.isValid() else len(COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return tr(f"runs.{COLUMNS[section]}")
        if role == Qt.ItemDataRole.TextAlignmentRole and COLUMNS[section] in NUMBERS:
            return RIGHT
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self.rows[index.row()], COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return row.notes.note or _text(row, column)
        if role == Qt.ItemDataRole.ForegroundRole and column == "status":
            return theme.color(STATUS_ROLES.get(row.info.status, "muted"))
        if role == Qt.ItemDataRole.TextAlignmentRole and column in NUMBERS:
            return RIGHT
        if role == SORT_ROLE:
            return _sort_key(row, column)
        return None


class _Filter(QSortFilterProxyModel):
    def __init__(self, model: RunTableModel) -> None:
        super().__init__(model)
        self._words = ""
        self._model = model
        self.setSourceModel(model)
        self.setSortRole(SORT_ROLE)
        self.setSortCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)

    def set_words(self, words: str) -> None:
        self._words = words
        self.invalidate()

    def filterAcceptsRow(self, source_row: int, source_parent: Index) -> bool:
        return self._model.rows[source_row].says(self._words)


class RunTable(QTableView):
    """Newest first at the start; several rows may be chosen.

    Signals:
        chosen(): other rows are selected. opened(object): a HistoryRow was double-clicked or Enter pressed.
    """

    chosen = Signal()
    opened = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._model = RunTableModel(self)
        self._filter = _Filter(self._model)
        self.setModel(self._filter)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        # Measuring a thousand rows for each column takes longer than showing them.
        header.setResizeContentsPrecision(50)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        for name in ("name", "base"):
            header.setSectionResizeMode(COLUMNS.index(name), QHeaderView.ResizeMode.Stretch)
        self.setSortingEnabled(True)
        self.sortByColumn(COLUMNS.index("started"), Qt.SortOrder.DescendingOrder)
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit())
        self.activated.connect(self._on_activated)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self.viewport().update)
        self.retranslate()

    @property
    def shown(self) -> int:
        """How many rows the filter lets through."""
        return self._filter.rowCount()

    def show_rows(self, rows: Sequence[HistoryRow]) -> bool:
        """Show these; what is still there stays selected. Returns whether they are others than before."""
        if rows == self._model.rows:
            return False
        before = {row.run_id for row in self.selected()}
        self._model.show_rows(rows)
        self.select(before)
        return True

    def selected(self) -> list[HistoryRow]:
        """The chosen rows, in the order in which they are shown."""
        indexes = sorted(self.selectionModel().selectedRows(), key=lambda index: index.row())
        return [self._model.rows[self._filter.mapToSource(index).row()] for index in indexes]

    def select(self, run_ids: set[str]) -> None:
        """Select these runs and no other."""
        model = self.selectionModel()
        model.clearSelection()
        flags = model.SelectionFlag.Select | model.SelectionFlag.Rows
        for index, row in enumerate(self._model.rows):
            if row.run_id in run_ids:
                model.select(self._filter.mapFromSource(self._model.index(index, 0)), flags)

    def set_words(self, words: str) -> None:
        """Show only what all of these words occur in."""
        self._filter.set_words(words)

    def retranslate(self) -> None:
        self.setAccessibleName(tr("page.runs"))
        self._model.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, len(COLUMNS) - 1)
        self._model.show_rows(self._model.rows)

    def _on_activated(self, index: QModelIndex) -> None:
        self.opened.emit(self._model.rows[self._filter.mapToSource(index).row()])


def _text(row: HistoryRow, column: str) -> str:
    record = row.info.record
    if column == "name":
        return row.name
    if column == "status":
        return f"{STATUS_MARKS[row.info.status]} {tr(f'status.{row.info.status}')}"
    if column == "base":
        return record.base_name
    if column == "steps":
        reached = fmt.NONE if row.step is None else fmt.whole(row.step)
        return f"{reached} / {fmt.whole(record.total_steps)}"
    if column in ("loss", "val"):
        return fmt.loss(row.loss if column == "loss" else row.best_val_loss)
    if column == "started":
        moment = QDateTime.fromSecsSinceEpoch(int(record.created_ts))
        return QLocale(language()).toString(moment, "yyyy-MM-dd HH:mm")
    return fmt.duration(row.seconds)


def _sort_key(row: HistoryRow, column: str) -> Any:
    numbers = {
        "steps": row.step, "loss": row.loss, "val": row.best_val_loss, "took": row.seconds,
        "started": row.info.record.created_ts,
    }  # fmt: skip
    if column in numbers:
        value = numbers[column]
        return float("inf") if value is None else float(value)
    return _text(row, column)

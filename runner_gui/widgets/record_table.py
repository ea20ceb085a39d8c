"""A list of things, one a line: sorted by any column, filtered by words, several of them chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr

ROW_HEIGHT = 34
SORT_ROLE = Qt.ItemDataRole.UserRole
RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
NO_PARENT = QModelIndex()
Index = QModelIndex | QPersistentModelIndex


@dataclass(frozen=True)
class Column:
    """What a column shows of a record.

    Attributes:
        heading: key of its sentence.
        text: what is shown. number: what it is sorted by, for one that shows a number (None sorts last).
        left: whether it starts at the left although it is sorted by a number, like a date.
        color: role of the text's colour. stretches: whether it takes the room that is left.
        fits_from: how wide the table must be, in pixels, for the column to be shown.
    """

    heading: str
    text: Callable[[Any], str]
    number: Callable[[Any], float | None] | None = None
    color: Callable[[Any], str] | None = None
    stretches: bool = False
    fits_from: int = 0
    left: bool = False

    @property
    def is_right(self) -> bool:
        return self.number is not None and not self.left


@dataclass(frozen=True)
class Records:
    """What a table knows of its records: a key each, the words to find it by, its tool tip."""

    key: Callable[[Any], str]
    words: Callable[[Any], str]
    tip: Callable[[Any], str]


class _Model(QAbstractTableModel):
    def __init__(self, columns: Sequence[Column], records: Records, parent: QWidget) -> None:
        super().__init__(parent)
        self.rows: list[Any] = []
        self._columns, self._records = columns, records

    def show_rows(self, rows: Sequence[Any]) -> None:
        same = list(map(self._records.key, rows)) == list(map(self._records.key, self.rows))
        if same:  # a reset would lose what is selected, and where the list was scrolled to
            self.rows = list(rows)
            if rows:
                self.dataChanged.emit(self.index(0, 0), self.index(len(rows) - 1, len(self._columns) - 1))
            return
        self.beginResetModel()
        self.rows = list(rows)
        self.endResetModel()

    def rowCount(self, parent: Index = NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = NO_PARENT) -> int:
        return 0 if parent.isValid() else len(self._columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return tr(self._columns[section].heading)
        if role == Qt.ItemDataRole.TextAlignmentRole and self._columns[section].is_right:
            return RIGHT
        return None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row, column = self.rows[index.row()], self._columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._records.tip(row) or column.text(row)
        if role == Qt.ItemDataRole.ForegroundRole and column.color is not None:
            return theme.color(column.color(row))
        if role == Qt.ItemDataRole.TextAlignmentRole and column.is_right:
            return RIGHT
        if role == SORT_ROLE and column.number is not None:
            value = column.number(row)
            return float("inf") if value is None else float(value)
        return column.text(row) if role == SORT_ROLE else None


class _Filter(QSortFilterProxyModel):
    def __init__(self, model: _Model, records: Records) -> None:
        super().__init__(model)
        self._words: list[str] = []
        self._model, self._records = model, records
        self.setSourceModel(model)
        self.setSortRole(SORT_ROLE)
        self.setSortCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)

    def set_words(self, words: str) -> None:
        self._words = words.casefold().split()
        self.invalidate()

    def filterAcceptsRow(self, source_row: int, source_parent: Index) -> bool:
        text = self._records.words(self._model.rows[source_row]).casefold()
        return all(word in text for word in self._words)


class RecordTable(QTableView):
    """The list.

    Signals:
        chosen(): other records are selected. opened(object): one was double-clicked, or Enter pressed on it.
    """

    chosen = Signal()
    opened = Signal(object)

    def __init__(
        self, columns: Sequence[Column], records: Records, name: str, parent: QWidget | None = None
    ) -> None:
        """`name` is the key of what screen readers call the table."""
        super().__init__(parent)
        self._name, self._key, self._columns = name, records.key, columns
        self._model = _Model(columns, records, self)
        self._filter = _Filter(self._model, records)
        self.setModel(self._filter)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setShowGrid(False)
        self.setTabKeyNavigation(False)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        # Measuring a thousand rows for each column takes longer than showing them.
        header.setResizeContentsPrecision(50)
        for index, column in enumerate(columns):
            mode = QHeaderView.ResizeMode
            header.setSectionResizeMode(index, mode.Stretch if column.stretches else mode.ResizeToContents)
        self.setSortingEnabled(True)
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit())
        self.activated.connect(self._on_activated)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self.viewport().update)
        self.retranslate()

    @property
    def shown(self) -> int:
        """How many records the filter lets through."""
        return self._filter.rowCount()

    def show_rows(self, rows: Sequence[Any]) -> bool:
        """Show these; what is still there stays selected. Returns whether they are others than before."""
        if rows == self._model.rows:
            return False
        before = {self._key(row) for row in self.selected()}
        self._model.show_rows(rows)
        self.select(before)
        return True

    def selected(self) -> list[Any]:
        """The chosen records, in the order in which they are shown."""
        indexes = sorted(self.selectionModel().selectedRows(), key=lambda index: index.row())
        return [self._model.rows[self._filter.mapToSource(index).row()] for index in indexes]

    def select(self, keys: set[str]) -> None:
        """Select the records of these keys and no other."""
        model = self.selectionModel()
        model.clearSelection()
        flags = model.SelectionFlag.Select | model.SelectionFlag.Rows
        for index, row in enumerate(self._model.rows):
            if self._key(row) in keys:
                model.select(self._filter.mapFromSource(self._model.index(index, 0)), flags)

    def set_words(self, words: str) -> None:
        """Show only what all of these words occur in."""
        self._filter.set_words(words)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        for index, column in enumerate(self._columns):
            self.setColumnHidden(index, self.width() < column.fits_from)

    def retranslate(self) -> None:
        self.setAccessibleName(tr(self._name))
        self._model.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, len(self._columns) - 1)
        self._model.show_rows(self._model.rows)

    def _on_activated(self, index: QModelIndex) -> None:
        self.opened.emit(self._model.rows[self._filter.mapToSource(index).row()])

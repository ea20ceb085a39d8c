"""The checkpoints of a run: step, losses, size, time, and what can be done with each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QIcon, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QStackedLayout,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.model.series import CheckpointRow
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import IconButton, button, label

COLUMNS = ("step", "loss", "val", "size", "time", "actions")
ROW_HEIGHT = 36
NARROW = 560
CELL_PADDING = 16  # left and right, of the style sheet


@dataclass(frozen=True, slots=True)
class TableRow:
    """A checkpoint with the time of its writing (Unix seconds, None where it is not known)."""

    checkpoint: CheckpointRow
    created_ts: float | None = None


class CheckpointTable(QWidget):
    """Newest first; the best one has a star and the word.

    Signals:
        try_requested(str), merge_requested(str), continue_requested(str), show_requested(str): a button of
            the checkpoint in this folder was pressed.
    """

    try_requested = Signal(str)
    merge_requested = Signal(str)
    continue_requested = Signal(str)
    show_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setShowGrid(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.table.setTabKeyNavigation(False)
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.table.customContextMenuRequested.connect(self._on_context_menu)
        header = self.table.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(COLUMNS.index("time"), QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(COLUMNS.index("actions"), QHeaderView.ResizeMode.Fixed)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.empty = label("muted", wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.empty)
        self._stack.addWidget(self.table)
        self.menu = QMenu(self)
        self._rows: list[TableRow] = []
        self._can_continue = True
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self.retranslate)
        self.retranslate()

    def show_rows(self, rows: Sequence[TableRow], *, can_continue: bool) -> None:
        """Show these checkpoints; continuing is offered only while nothing trains."""
        newest_first = sorted(rows, key=lambda r: -r.checkpoint.step)
        if newest_first == self._rows and can_continue == self._can_continue:
            return
        self._rows, self._can_continue = newest_first, can_continue
        self._fill()

    def retranslate(self) -> None:
        self.table.setHorizontalHeaderLabels(
            [tr(f"checkpoints.{name}") if name != "actions" else "" for name in COLUMNS]
        )
        self.table.setAccessibleName(tr("tabs.checkpoints"))
        self.empty.setText(tr("checkpoints.empty"))
        self._fill()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        # The size says least of what there is to say, so it goes first where there is no room.
        self.table.setColumnHidden(COLUMNS.index("size"), self.width() < NARROW)

    def _fill(self) -> None:
        self._stack.setCurrentWidget(self.table if self._rows else self.empty)
        self.table.setRowCount(0)  # the old rows' buttons go at once, not when the event loop gets to it
        self.table.setRowCount(len(self._rows))
        width = 0
        for index, shown in enumerate(self._rows):
            cells = [QTableWidgetItem(text) for text in self._texts(shown)]
            if shown.checkpoint.best:
                cells[0].setIcon(QIcon(theme.pixmap("star", "amber", 16)))
            for column, cell in enumerate(cells):
                self.table.setItem(index, column, cell)
            actions = self._actions(shown.checkpoint)
            self.table.setCellWidget(index, len(COLUMNS) - 1, actions)
            for child in actions.findChildren(QWidget):
                child.ensurePolished()  # before the style sheet is applied, sizes are not those that come
            width = max(width, actions.sizeHint().width() + CELL_PADDING)
        # Fitting a column to its contents does not look at widgets.
        self.table.setColumnWidth(len(COLUMNS) - 1, width)

    @staticmethod
    def _texts(shown: TableRow) -> list[str]:
        point = shown.checkpoint
        stamp = fmt.NONE
        if shown.created_ts is not None:
            written = time.localtime(shown.created_ts)
            today = time.strftime("%Y%m%d") == time.strftime("%Y%m%d", written)
            stamp = time.strftime("%H:%M:%S", written) if today else fmt.moment(shown.created_ts)
        step = fmt.whole(point.step) + (f"  {tr('checkpoints.best')}" if point.best else "")
        return [step, fmt.loss(point.loss), fmt.loss(point.val_loss), fmt.size(point.bytes), stamp]

    def _actions(self, point: CheckpointRow) -> QWidget:
        box = QWidget()
        line = QHBoxLayout(box)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(2)
        attempt, merge = button("link"), button("link")
        attempt.setText(tr("checkpoints.try"))
        attempt.setToolTip(tr("checkpoints.try_help"))
        merge.setText(tr("checkpoints.merge"))
        more = IconButton("more", look="small", size=16)
        more.set_words(tr("checkpoints.more"))
        for widget in (attempt, merge):
            widget.setAccessibleName(f"{widget.text()} {fmt.whole(point.step)}")
        attempt.clicked.connect(lambda: self.try_requested.emit(point.path))
        merge.clicked.connect(lambda: self.merge_requested.emit(point.path))
        more.clicked.connect(lambda: self.open_menu(point, more.mapToGlobal(more.rect().bottomLeft())))
        for widget in (attempt, merge, more):
            line.addWidget(widget)
        return box

    def open_menu(self, point: CheckpointRow, where: QPoint) -> None:
        """All that can be done with one checkpoint."""
        self.menu.clear()
        self.menu.addAction(tr("checkpoints.try"), lambda: self.try_requested.emit(point.path))
        self.menu.addAction(tr("checkpoints.merge"), lambda: self.merge_requested.emit(point.path))
        action = self.menu.addAction(
            tr("checkpoints.continue"), lambda: self.continue_requested.emit(point.path)
        )
        action.setEnabled(self._can_continue)
        self.menu.addSeparator()
        self.menu.addAction(tr("checkpoints.show"), lambda: self.show_requested.emit(point.path))
        self.menu.popup(where)

    def _on_context_menu(self, where: QPoint) -> None:
        index = self.table.rowAt(where.y())
        if 0 <= index < len(self._rows):
            self.open_menu(self._rows[index].checkpoint, self.table.viewport().mapToGlobal(where))

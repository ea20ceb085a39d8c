"""The conversations that there are: searched, renamed, deleted, taken along as files."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QAction, QKeySequence, QShortcut
from PySide6.QtWidgets import QLineEdit, QListWidget, QListWidgetItem, QMenu, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.conversation import Conversation
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import IconButton, button, label, row

SHOWN = 500
ACTIONS = ("rename", "export_markdown", "export_json", "delete")


class ConversationList(QWidget):
    """A list, the latest first, with what can be done to each.

    Signals:
        chosen(str): the id of the one to show. new_requested(): another one. import_requested(): from a file.
        searched(str): words that are to be found.
        renamed(str, str): an id and a title. action_requested(str, str): one of `ACTIONS`, and an id.
    """

    chosen = Signal(str)
    new_requested = Signal()
    import_requested = Signal()
    searched = Signal(str)
    renamed = Signal(str, str)
    action_requested = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.new = button()
        self.more = IconButton("more", look="flat")
        self.search = QLineEdit()
        self.search.setClearButtonEnabled(True)
        self.items = QListWidget()
        self.items.setObjectName("conversations")
        self.items.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.items.setUniformItemSizes(True)
        self.items.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.none = label("muted", wrap=True)
        self.menu = QMenu(self)
        self.actions_by_name: dict[str, QAction] = {}
        head = row(self.new, self.more)
        head.setStretch(0, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self.search)
        column.addWidget(self.none)
        column.addWidget(self.items, 1)
        self._filling = False
        self._connect()
        self.retranslate()

    def _connect(self) -> None:
        self.new.clicked.connect(self.new_requested)
        self.search.textChanged.connect(self.searched)
        self.items.currentItemChanged.connect(self._on_current)
        self.items.itemChanged.connect(self._on_renamed)
        self.items.customContextMenuRequested.connect(self._open_menu)
        self.more.clicked.connect(lambda: self.menu.popup(self.more.mapToGlobal(QPoint(0, 32))))
        for name in ("import", *ACTIONS):
            action = self.menu.addAction("")
            action.triggered.connect(lambda _=False, name=name: self._act(name))
            self.actions_by_name[name] = action
            if name == "import":
                self.menu.addSeparator()
        for key, name in (("F2", "rename"), ("Del", "delete")):
            shortcut = QShortcut(QKeySequence(key), self.items)
            shortcut.setContext(Qt.ShortcutContext.WidgetShortcut)
            shortcut.activated.connect(lambda name=name: self._act(name))
        language_changed.connect(self.retranslate)

    def show_conversations(self, found: list[Conversation], current: str) -> None:
        """Show these; the one with the id `current` is marked."""
        self._filling = True
        self.items.clear()
        for one in found[:SHOWN]:
            item = QListWidgetItem(one.name() or tr("chat.untitled"))
            item.setData(Qt.ItemDataRole.UserRole, one.id)
            item.setToolTip("\n".join(part for part in (one.model, fmt.moment(one.changed_ts)) if part))
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            self.items.addItem(item)
            if one.id == current:
                self.items.setCurrentItem(item)
        self.none.setVisible(not found)
        self._filling = False
        self._enable()

    def current_id(self) -> str:
        item = self.items.currentItem()
        return str(item.data(Qt.ItemDataRole.UserRole)) if item is not None else ""

    def _act(self, name: str) -> None:
        item = self.items.currentItem()
        if name == "import":
            self.import_requested.emit()
        elif item is not None and name == "rename":
            self.items.editItem(item)
        elif item is not None:
            self.action_requested.emit(name, self.current_id())

    def _on_current(self) -> None:
        if not self._filling and (found := self.current_id()):
            self.chosen.emit(found)
        self._enable()

    def _on_renamed(self, item: QListWidgetItem) -> None:
        if not self._filling:
            self.renamed.emit(str(item.data(Qt.ItemDataRole.UserRole)), item.text().strip())

    def _open_menu(self, at: QPoint) -> None:
        self.menu.popup(self.items.viewport().mapToGlobal(at))

    def _enable(self) -> None:
        for name in ACTIONS:
            self.actions_by_name[name].setEnabled(self.items.currentItem() is not None)

    def retranslate(self) -> None:
        self.new.setText(tr("chat.new"))
        self.more.set_words(tr("chat.more"))
        self.search.setPlaceholderText(tr("chat.search"))
        self.search.setAccessibleName(tr("chat.search"))
        self.items.setAccessibleName(tr("chat.conversations"))
        self.none.setText(tr("chat.none_found"))
        for name, action in self.actions_by_name.items():
            action.setText(tr(f"chat.list_{name}"))

"""The navigation at the left: a page an entry, each an icon and a word."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QButtonGroup, QFrame, QLabel, QToolButton, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import label, row

ICON = 20
WIDTH = 148


class NavRail(QFrame):
    """Every page's name is its key (`page.<name>`) and its icon.

    Args:
        names: the pages from top to bottom.
        foot: this page's entry and those behind it stand at the foot.
        keys: the shortcut of a page, shown in its tool tip.

    Signals:
        page_chosen(str): an entry was pressed.
    """

    page_chosen = Signal(str)

    def __init__(
        self,
        names: Sequence[str],
        foot: str,
        keys: dict[str, str],
        mark: QIcon,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("rail")
        self.setFixedWidth(WIDTH)
        self._keys = keys
        self.entries: dict[str, QToolButton] = {}
        self._group = QButtonGroup(self)
        picture = QLabel()
        picture.setPixmap(mark.pixmap(QSize(24, 24)))
        self._product = label("step_name")
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 12, 8, 8)
        column.setSpacing(2)
        head = row(picture, self._product, 1)
        head.setContentsMargins(8, 0, 0, 8)
        column.addLayout(head)
        for name in names:
            if name == foot:
                column.addStretch(1)
            entry = QToolButton()
            entry.setObjectName("nav")
            entry.setCheckable(True)
            entry.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
            entry.setIconSize(QSize(ICON, ICON))
            entry.setCursor(Qt.CursorShape.PointingHandCursor)
            entry.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            entry.clicked.connect(lambda _=False, chosen=name: self.page_chosen.emit(chosen))
            self._group.addButton(entry)
            self.entries[name] = entry
            column.addWidget(entry)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self._tint)
        self.retranslate()

    def show_page(self, name: str) -> None:
        """Mark the entry of the page that is in front."""
        self.entries[name].setChecked(True)
        self._tint()

    def _tint(self) -> None:
        for name, entry in self.entries.items():
            entry.setIcon(theme.icon(name, "accent_text" if entry.isChecked() else "muted", ICON))

    def retranslate(self) -> None:
        self._product.setText(tr("app.short"))
        for name, entry in self.entries.items():
            words, key = tr(f"page.{name}"), self._keys.get(name, "")
            entry.setText(words)
            entry.setToolTip(f"{words}  ({key})" if key else words)

"""The settings: language, theme, work folder."""

from __future__ import annotations

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import LANGUAGE_NAMES, language_changed, tr
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.widgets.controls import CalmComboBox, Card, ElidedLabel, button, label, row


class SettingsPage(QWidget):
    """Changes take effect at once.

    Signals:
        language_chosen(str), theme_chosen(str): another one was chosen.
    """

    language_chosen = Signal(str)
    theme_chosen = Signal(str)

    def __init__(self, workspace: Workspace, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self._workspace = workspace
        self.heading = label("heading")
        self.language, self.theme = CalmComboBox(), CalmComboBox()
        for code in ("system", *LANGUAGE_NAMES):
            self.language.addItem(LANGUAGE_NAMES.get(code, ""), code)
        for name in ("system", "light", "dark"):
            self.theme.addItem("", name)
        self.language.setCurrentIndex(self.language.findData(settings.language))
        self.theme.setCurrentIndex(self.theme.findData(settings.theme))
        self.names = {name: label("step_name") for name in ("language", "theme", "folder")}
        self.helps = {name: label("help", wrap=True) for name in ("language", "theme", "folder")}
        self.folder = ElidedLabel()
        self.folder.set_full_text(str(workspace.root))
        self.open = button()
        self._lay_out()
        self.language.currentIndexChanged.connect(
            lambda i: self.language_chosen.emit(self.language.itemData(i))
        )
        self.theme.currentIndexChanged.connect(lambda i: self.theme_chosen.emit(self.theme.itemData(i)))
        self.open.clicked.connect(
            lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._workspace.root)))
        )
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _lay_out(self) -> None:
        card = Card()
        card.setMaximumWidth(680)
        card.body.setSpacing(20)
        self.names["language"].setBuddy(self.language)
        self.names["theme"].setBuddy(self.theme)
        for name, field in (("language", self.language), ("theme", self.theme)):
            field.setFixedWidth(200)
            card.body.addLayout(self._line(name, field))
        card.body.addLayout(self._line("folder", self.open))
        card.body.addWidget(self.folder)
        column = QVBoxLayout(self)
        column.setContentsMargins(32, 24, 32, 24)
        column.setSpacing(16)
        column.addWidget(self.heading)
        across = row(card, 1, spacing=0)
        across.setStretch(0, 100)
        column.addLayout(across)
        column.addStretch(1)

    def _line(self, name: str, field: QWidget) -> QHBoxLayout:
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self.names[name])
        words.addWidget(self.helps[name])
        line = QHBoxLayout()
        line.setSpacing(24)
        line.addLayout(words, 1)
        line.addWidget(field)
        return line

    def retranslate(self) -> None:
        self.heading.setText(tr("page.settings"))
        self.language.setItemText(0, tr("settings.system"))
        for index, name in enumerate(("system", "light", "dark")):
            self.theme.setItemText(index, tr(f"settings.{name}"))
        for name, shown in self.names.items():
            shown.setText(tr(f"settings.{name}"))
            self.helps[name].setText(tr(f"settings.{name}_help"))
        self.open.setText(tr("settings.open"))

"""The settings: language, theme, work folder."""

from __future__ import annotations

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import LANGUAGE_NAMES, language_changed, tr
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.widgets.controls import CalmComboBox, Card, ElidedLabel, button, label, row

NAMES = ("language", "theme", "models", "folder")


class SettingsPage(QWidget):
    """Changes take effect at once.

    Signals:
        language_chosen(str), theme_chosen(str): another one was chosen.
        models_folder_chosen(str): models are to lie in this folder; "" means the work folder's own.
    """

    language_chosen = Signal(str)
    theme_chosen = Signal(str)
    models_folder_chosen = Signal(str)

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
        self.names = {name: label("step_name") for name in NAMES}
        self.helps = {name: label("help", wrap=True) for name in NAMES}
        self.folder = ElidedLabel()
        self.folder.set_full_text(str(workspace.root))
        self.open = button()
        self.models = ElidedLabel()
        self.choose, self.reset = button(), button("link")
        self._lay_out()
        self.language.currentIndexChanged.connect(
            lambda i: self.language_chosen.emit(self.language.itemData(i))
        )
        self.theme.currentIndexChanged.connect(lambda i: self.theme_chosen.emit(self.theme.itemData(i)))
        self.open.clicked.connect(
            lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._workspace.root)))
        )
        self.choose.clicked.connect(self._choose_models)
        self.reset.clicked.connect(lambda: self.take_models_folder(""))
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
        buttons = QWidget()
        buttons.setLayout(row(self.reset, self.choose))
        card.body.addLayout(self._line("models", buttons))
        card.body.addWidget(self.models)
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

    def _choose_models(self) -> None:
        title, start = tr("settings.models"), str(self._workspace.models)
        if chosen := QFileDialog.getExistingDirectory(self.window(), title, start):
            self.take_models_folder(chosen)

    def take_models_folder(self, folder: str) -> None:
        """Models lie in this folder from now on."""
        self._workspace.use_models_folder(folder)
        self.models_folder_chosen.emit(folder)
        self._show_models()

    def _show_models(self) -> None:
        self.models.set_full_text(str(self._workspace.models))
        self.reset.setVisible(self._workspace.models != self._workspace.own_models)

    def retranslate(self) -> None:
        self.heading.setText(tr("page.settings"))
        self.language.setItemText(0, tr("settings.system"))
        for index, name in enumerate(("system", "light", "dark")):
            self.theme.setItemText(index, tr(f"settings.{name}"))
        for name, shown in self.names.items():
            shown.setText(tr(f"settings.{name}"))
            self.helps[name].setText(tr(f"settings.{name}_help"))
        self.open.setText(tr("settings.open"))
        self.choose.setText(tr("settings.choose"))
        self.reset.setText(tr("settings.reset"))
        self._show_models()

"""The settings: how the window looks, where files lie, what computes, and what it tells."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import LANGUAGE_NAMES, language_changed, tr
from runner_gui.model.settings import SCALES, Settings
from runner_gui.model.workspace import Workspace
from runner_gui.services.background import Background
from runner_gui.services.updates import look_for_update
from runner_gui.widgets.controls import CalmComboBox, Card, ElidedLabel, button, label, row, scrolled

SECTIONS = {
    "looks": ("language", "theme", "scale"),
    "files": ("models", "folder"),
    "computing": ("python", "sources"),
    "app": ("notifications", "updates", "guide"),
}
_WIDTH, _FIELD_WIDTH = 720, 200


class SettingsPage(QWidget):
    """Changes take effect at once, but for those that say so.

    Signals:
        language_chosen(str), theme_chosen(str): another one was chosen.
        models_folder_chosen(str): models are to lie in this folder; "" means the work folder's own.
        changed(): something else was changed in the settings themselves.
        sources_asked(), guide_asked(): mirrors and proxy, or the first steps, are to be shown.
    """

    language_chosen = Signal(str)
    theme_chosen = Signal(str)
    models_folder_chosen = Signal(str)
    changed = Signal()
    sources_asked = Signal()
    guide_asked = Signal()

    def __init__(self, workspace: Workspace, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self._workspace, self._settings = workspace, settings
        self._background = Background(self)
        self._update_key = "settings.updates_help"
        self.heading = label("heading")
        self.language, self.theme, self.scale = CalmComboBox(), CalmComboBox(), CalmComboBox()
        self.open, self.sources, self.guide, self.check = button(), button(), button(), button()
        self.models, self.folder, self.python = ElidedLabel(), ElidedLabel(), ElidedLabel()
        self.choose, self.reset = button(), button("link")
        self.choose_python, self.reset_python = button(), button("link")
        self.notifications = QCheckBox()
        self._fill()
        self._lay_out()
        self._connect()
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _fill(self) -> None:
        settings = self._settings
        for code in ("system", *LANGUAGE_NAMES):
            self.language.addItem(LANGUAGE_NAMES.get(code, ""), code)
        for name in ("system", "light", "dark"):
            self.theme.addItem("", name)
        for scale in SCALES:
            self.scale.addItem(f"{scale} %", scale)
        for field, value in (
            (self.language, settings.language), (self.theme, settings.theme), (self.scale, settings.scale)
        ):  # fmt: skip
            field.setCurrentIndex(max(0, field.findData(value)))
            field.setFixedWidth(_FIELD_WIDTH)
        self.folder.set_full_text(str(self._workspace.root))
        self.notifications.setChecked(settings.notifications)

    def _lay_out(self) -> None:
        fields: dict[str, tuple[QWidget, ...]] = {
            "language": (self.language,), "theme": (self.theme,), "scale": (self.scale,),
            "models": (self.reset, self.choose), "folder": (self.open,),
            "python": (self.reset_python, self.choose_python), "sources": (self.sources,),
            "notifications": (self.notifications,), "updates": (self.check,), "guide": (self.guide,),
        }  # fmt: skip
        below = {"models": self.models, "folder": self.folder, "python": self.python}
        self.titles = {section: label("title") for section in SECTIONS}
        self.names = {name: label("step_name") for name in fields}
        self.helps = {name: label("help", wrap=True) for name in fields}
        inside = QWidget()
        inside.setObjectName("scroll_body")
        column = QVBoxLayout(inside)
        column.setContentsMargins(24, 16, 24, 16)
        column.setSpacing(12)
        column.addWidget(self.heading)
        for section, names in SECTIONS.items():
            card = Card()
            card.setMaximumWidth(_WIDTH)
            card.body.setSpacing(14)
            card.body.addWidget(self.titles[section])
            for name in names:
                self.names[name].setBuddy(fields[name][-1])
                card.body.addLayout(self._line(name, fields[name], below.get(name)))
            across = row(card, 1, spacing=0)
            across.setStretch(0, 100)
            column.addLayout(across)
        column.addStretch(1)
        scroll = scrolled(inside)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(scroll)

    def _line(self, name: str, fields: tuple[QWidget, ...], below: QWidget | None) -> QVBoxLayout:
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self.names[name])
        words.addWidget(self.helps[name])
        across = QHBoxLayout()
        across.setSpacing(24)
        across.addLayout(words, 1)
        across.addLayout(row(*fields))
        out = QVBoxLayout()
        out.setSpacing(4)
        out.addLayout(across)
        if below is not None:
            out.addWidget(below)
        return out

    def _connect(self) -> None:
        self.language.currentIndexChanged.connect(
            lambda i: self.language_chosen.emit(self.language.itemData(i))
        )
        self.theme.currentIndexChanged.connect(lambda i: self.theme_chosen.emit(self.theme.itemData(i)))
        self.scale.currentIndexChanged.connect(lambda i: self._set("scale", self.scale.itemData(i)))
        self.notifications.toggled.connect(lambda on: self._set("notifications", on))
        self.open.clicked.connect(
            lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._workspace.root)))
        )
        self.choose.clicked.connect(self._choose_models)
        self.reset.clicked.connect(lambda: self.take_models_folder(""))
        self.choose_python.clicked.connect(self._choose_python)
        self.reset_python.clicked.connect(lambda: self.take_python(""))
        self.sources.clicked.connect(self.sources_asked)
        self.guide.clicked.connect(self.guide_asked)
        self.check.clicked.connect(self.look_for_update)

    def _set(self, name: str, value: object) -> None:
        setattr(self._settings, name, value)
        self.changed.emit()
        self.retranslate()

    def _choose_models(self) -> None:
        title, start = tr("settings.models"), str(self._workspace.models)
        if chosen := QFileDialog.getExistingDirectory(self.window(), title, start):
            self.take_models_folder(chosen)

    def take_models_folder(self, folder: str) -> None:
        """Models lie in this folder from now on."""
        self._workspace.use_models_folder(folder)
        self.models_folder_chosen.emit(folder)
        self.retranslate()

    def _choose_python(self) -> None:
        start = str(Path(self._settings.interpreter).parent) if self._settings.interpreter else ""
        chosen, _ = QFileDialog.getOpenFileName(self.window(), tr("settings.python"), start)
        if chosen:
            self.take_python(chosen)

    def take_python(self, interpreter: str) -> None:
        """This interpreter computes, from the next start on; "" means that of the app or its environment."""
        self._set("interpreter", interpreter)

    def look_for_update(self) -> None:
        """Ask whether there is a newer version."""
        self.check.setEnabled(False)
        self._update_key = "settings.updates_asking"
        self.retranslate()
        self._background.submit(look_for_update, self._on_update)

    def _on_update(self, answer: object) -> None:
        known = answer if isinstance(answer, str) else "unreachable"
        self._update_key = f"settings.updates_{known}"
        self.check.setEnabled(True)
        self.retranslate()

    def close_files(self) -> None:
        """End the thread."""
        self._background.close()

    def retranslate(self) -> None:
        self.heading.setText(tr("page.settings"))
        self.language.setItemText(0, tr("settings.system"))
        for index, name in enumerate(("system", "light", "dark")):
            self.theme.setItemText(index, tr(f"settings.{name}"))
        for section, shown in self.titles.items():
            shown.setText(tr(f"settings.section_{section}"))
        for name, shown in self.names.items():
            shown.setText(tr(f"settings.{name}"))
            key = self._update_key if name == "updates" else f"settings.{name}_help"
            self.helps[name].setText(tr(key))
        self.models.set_full_text(str(self._workspace.models))
        self.reset.setVisible(self._workspace.models != self._workspace.own_models)
        self.python.set_full_text(self._settings.interpreter or tr("settings.python_own"))
        self.reset_python.setVisible(bool(self._settings.interpreter))
        self.notifications.setText(tr("form.on" if self.notifications.isChecked() else "form.off"))
        for shown in (self.choose, self.choose_python):
            shown.setText(tr("settings.choose"))
        for shown in (self.reset, self.reset_python):
            shown.setText(tr("settings.reset"))
        self.open.setText(tr("settings.open"))
        self.sources.setText(tr("settings.open_sources"))
        self.guide.setText(tr("settings.open_guide"))
        self.check.setText(tr("settings.check"))
        for name, field in (("language", self.language), ("theme", self.theme), ("scale", self.scale),
                            ("notifications", self.notifications)):  # fmt: skip
            field.setAccessibleName(tr(f"settings.{name}"))

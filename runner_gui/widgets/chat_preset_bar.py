"""Presets of settings: chosen, kept under a name, taken along as files."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QPoint, Signal
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QComboBox, QFileDialog, QMenu, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.chat_presets import Preset, PresetStore, read_preset, write_preset
from runner_gui.model.conversation import ChatSettings
from runner_gui.model.sampling import Sampling
from runner_gui.widgets.controls import CalmComboBox, IconButton, row
from trainer.contract.errors import AppError

# Presets that come with the app: their sampling; names and texts are in the catalogue.
CHAT: dict[str, dict[str, float]] = {
    "balanced": {},
    "precise": {"temperature": 0.3, "top_p": 0.3, "frequency_penalty": 0.2},
    "creative": {"temperature": 1.3, "top_p": 0.6, "presence_penalty": 0.3, "frequency_penalty": 0.5},
}
TEXT: dict[str, dict[str, float]] = {
    "story": {"temperature": 1.2, "top_p": 0.6},
    "instruction": {"temperature": 0.5, "top_p": 0.3},
    "questions": {"temperature": 0.3, "top_p": 0.3},
    "translation": {"temperature": 0.3, "top_p": 0.3},
}
_ACTIONS = ("save", "delete", "import", "export")


def built_in(kind: str) -> list[Preset]:
    """The presets that come with the app, in the language in use."""
    made = []
    for name, sampling in (CHAT if kind == "chat" else TEXT).items():
        settings = ChatSettings(sampling=Sampling(**sampling))  # type: ignore[arg-type]
        text = tr(f"chat_preset.{name}_text") if kind == "text" else ""
        made.append(Preset(kind=kind, name=tr(f"chat_preset.{name}"), settings=settings, text=text))  # type: ignore[arg-type]
    return made


class ChatPresetBar(QWidget):
    """A menu of presets whose field takes a new name.

    Args:
        kind: "chat" or "text".
        store: the person's own.

    Signals:
        chosen(object): a Preset. wanted(str): the settings in use are to be kept under this name.
        failed(object): a Problem.
    """

    chosen = Signal(object)
    wanted = Signal(str)
    failed = Signal(object)

    def __init__(self, kind: str, store: PresetStore, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._kind, self._store = kind, store
        self.combo = CalmComboBox()
        self.combo.setEditable(True)
        self.combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.more = IconButton("more", look="flat")
        self.menu = QMenu(self)
        self.actions_by_name: dict[str, QAction] = {}
        for name in _ACTIONS:
            action = self.menu.addAction("")
            self.actions_by_name[name] = action
        across = row(self.combo, self.more)
        across.setStretch(0, 1)
        self.setLayout(across)
        self.more.clicked.connect(lambda: self.menu.popup(self.more.mapToGlobal(QPoint(0, 32))))
        self.combo.activated.connect(self._on_activated)
        self.combo.editTextChanged.connect(lambda _: self._enable())
        self.actions_by_name["save"].triggered.connect(lambda: self.wanted.emit(self.name()))
        self.actions_by_name["delete"].triggered.connect(self.delete)
        self.actions_by_name["import"].triggered.connect(self._choose_import)
        self.actions_by_name["export"].triggered.connect(self._choose_export)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def name(self) -> str:
        return self.combo.currentText().strip()

    def keep(self, preset: Preset) -> None:
        """Keep a preset, and show that it is chosen."""
        try:
            self._store.put(preset)
        except AppError as error:
            self.failed.emit(error.problem)
        self._fill(preset.name)

    def delete(self) -> None:
        """Remove the person's preset of the name that is shown."""
        try:
            self._store.remove(self._kind, self.name())
        except AppError as error:
            self.failed.emit(error.problem)
        self._fill("")

    def import_file(self, path: Path) -> None:
        """Take a preset in from a file, and use it."""
        try:
            preset = read_preset(path)
        except AppError as error:
            self.failed.emit(error.problem)
            return
        self.keep(preset)
        if preset.kind == self._kind:
            self.chosen.emit(preset)

    def export_file(self, path: Path) -> None:
        """Write the preset that is shown to a file."""
        preset = self._shown()
        if preset is None:
            return
        try:
            write_preset(path, preset)
        except AppError as error:
            self.failed.emit(error.problem)

    def _shown(self) -> Preset | None:
        return next((p for p in self._all() if p.name == self.name()), None)

    def _all(self) -> list[Preset]:
        return [*self._store.of(self._kind), *built_in(self._kind)]

    def _on_activated(self, _: int) -> None:
        if (preset := self._shown()) is not None:
            self.chosen.emit(preset)
        self._enable()

    def _choose_import(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self.window(), tr("chat_preset.import"), "", "*.json")
        if name:
            self.import_file(Path(name))

    def _choose_export(self) -> None:
        start = f"{self.name()}.json".replace("/", "-")
        name, _ = QFileDialog.getSaveFileName(self.window(), tr("chat_preset.export"), start, "*.json")
        if name:
            self.export_file(Path(name))

    def _fill(self, current: str) -> None:
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItems([preset.name for preset in self._all()])
        self.combo.setCurrentIndex(-1)
        self.combo.setEditText(current)
        self.combo.blockSignals(False)
        self._enable()

    def _enable(self) -> None:
        own = any(preset.name == self.name() for preset in self._store.of(self._kind))
        self.actions_by_name["save"].setEnabled(bool(self.name()))
        self.actions_by_name["delete"].setEnabled(own)
        self.actions_by_name["export"].setEnabled(self._shown() is not None)

    def retranslate(self) -> None:
        self._fill(self.name())
        line = self.combo.lineEdit()
        if line is not None:
            line.setPlaceholderText(tr("chat_preset.choose"))
        self.combo.setAccessibleName(tr("chat_preset.choose"))
        self.more.set_words(tr("chat_preset.more"))
        for name, action in self.actions_by_name.items():
            action.setText(tr(f"chat_preset.{name}"))

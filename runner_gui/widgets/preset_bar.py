"""Above the form: which recipe it starts from, and what can be done with all of it."""

from __future__ import annotations

from PySide6.QtCore import QSignalBlocker, Signal
from PySide6.QtWidgets import QMenu, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.train_presets import DEMO, EFFORTS, PURPOSES
from runner_gui.widgets.controls import CalmComboBox, IconButton, row

ACTIONS = ("save", "load", "runner", "", "copy", "paste", "", "command")
_EFFORT_WIDTH = 104


class PresetBar(QWidget):
    """Two choices and a menu; `menu` takes more entries from others.

    Signals:
        preset_chosen(str): `demo` or `<purpose>.<effort>`.
        action_chosen(str): one of `ACTIONS`.
    """

    preset_chosen = Signal(str)
    action_chosen = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.purpose, self.effort = CalmComboBox(), CalmComboBox()
        for name in (DEMO, *PURPOSES):
            self.purpose.addItem("", name)
        for name in EFFORTS:
            self.effort.addItem("", name)
        self.effort.setCurrentIndex(self.effort.findData("standard"))
        self.effort.setFixedWidth(_EFFORT_WIDTH)
        self.more = IconButton("more")
        self.menu = QMenu(self)
        self._entries = {}
        for name in ACTIONS:
            if name:
                self._entries[name] = self.menu.addAction("", lambda n=name: self.action_chosen.emit(n))
            else:
                self.menu.addSeparator()
        line = row(self.purpose, self.effort, self.more, spacing=4)
        line.setStretch(0, 1)
        self.setLayout(line)
        self.purpose.currentIndexChanged.connect(self._on_chosen)
        self.effort.currentIndexChanged.connect(self._on_chosen)
        self.more.clicked.connect(
            lambda: self.menu.popup(self.more.mapToGlobal(self.more.rect().bottomLeft()))
        )
        language_changed.connect(self.retranslate)
        self.retranslate()
        self.show_preset(DEMO)

    def show_preset(self, name: str) -> None:
        """Show which one is in use, without reporting it as a choice."""
        purpose, _, effort = name.partition(".")
        with QSignalBlocker(self.purpose), QSignalBlocker(self.effort):
            self.purpose.setCurrentIndex(max(0, self.purpose.findData(purpose)))
            if effort in EFFORTS:
                self.effort.setCurrentIndex(self.effort.findData(effort))
        self.effort.setVisible(self.purpose.currentData() != DEMO)

    def lock(self, locked: bool) -> None:
        """While something is under way the form cannot take another recipe."""
        self.purpose.setDisabled(locked)
        self.effort.setDisabled(locked)
        for name in ("load", "paste"):
            self._entries[name].setDisabled(locked)

    def retranslate(self) -> None:
        for index in range(self.purpose.count()):
            self.purpose.setItemText(index, tr(f"preset.{self.purpose.itemData(index)}"))
        for index in range(self.effort.count()):
            self.effort.setItemText(index, tr(f"effort.{self.effort.itemData(index)}"))
        self.purpose.setAccessibleName(tr("preset.purpose"))
        self.effort.setAccessibleName(tr("preset.effort"))
        self.purpose.setToolTip(tr("preset.purpose"))
        self.effort.setToolTip(tr("preset.effort"))
        self.more.set_words(tr("preset.more"))
        for name, entry in self._entries.items():
            entry.setText(tr(f"preset.do_{name}"))

    def _on_chosen(self) -> None:
        purpose = self.purpose.currentData()
        self.effort.setVisible(purpose != DEMO)
        self.preset_chosen.emit(purpose if purpose == DEMO else f"{purpose}.{self.effort.currentData()}")

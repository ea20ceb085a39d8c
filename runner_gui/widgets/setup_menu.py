"""The choices of set-up as a menu: where downloads come from; on Windows also which Linux, and where."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QFileDialog, QMenu, QWidget

from runner_gui.i18n import tr
from runner_gui.services.setup_choices import SetupChoices
from runner_gui.widgets import numbers_format as fmt
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.mirrors import MIRRORS


class SetupMenu(QMenu):
    """Filled when it is opened: what there is to choose changes.

    Signals:
        chosen(str, object): an option and its value. removal_asked(): of our own distribution.
    """

    chosen = Signal(str, object)
    removal_asked = Signal()

    def __init__(self, choices: SetupChoices, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices = choices
        self.aboutToShow.connect(self.fill)

    def fill(self) -> None:
        """Write down what can be chosen now."""
        self.clear()
        options = self._choices.options
        mirrors = {name: tr(f"mirror.{name}") for name in MIRRORS}
        self._add_group("menu.mirror", "mirror", mirrors, options.mirror)
        if self._choices.windows is None:
            return
        names = {name: name for name in self._choices.distributions()}
        names[OWN_DISTRIBUTION] = tr("menu.own_distribution")
        self._add_group("menu.distribution", "distribution", names, options.distribution)
        self.addSeparator()
        self._add("menu.folder").triggered.connect(self.choose_folder)
        self._add("menu.rootfs").triggered.connect(self.choose_file)
        if options.rootfs:
            self._add("menu.no_rootfs").triggered.connect(lambda: self.chosen.emit("rootfs", None))
        if (size := self._choices.own_bytes()) is not None:
            self.addSeparator()
            remove = self.addAction(tr("menu.remove", size=fmt.size(size)))
            remove.triggered.connect(self.removal_asked)

    def choose_folder(self) -> None:
        """Ask where our distribution is to lie."""
        if chosen := QFileDialog.getExistingDirectory(self.parentWidget(), tr("menu.folder")):
            self.chosen.emit("folder", Path(chosen))

    def choose_file(self) -> None:
        """Ask for a root file system to make our distribution of."""
        kinds = "*.wsl *.tar *.tar.gz *.tgz *.tar.xz"
        chosen, _ = QFileDialog.getOpenFileName(self.parentWidget(), tr("menu.rootfs"), "", f"({kinds})")
        if chosen:
            self.chosen.emit("rootfs", Path(chosen))

    def _add(self, key: str) -> QAction:
        return self.addAction(tr(key))

    def _add_group(self, key: str, option: str, values: dict[str, str], current: str) -> None:
        menu = self.addMenu(tr(key))
        group = QActionGroup(menu)
        for value, words in values.items():
            action = menu.addAction(words)
            action.setCheckable(True)
            action.setChecked(value == current)
            action.triggered.connect(lambda _=False, new=value: self.chosen.emit(option, new))
            group.addAction(action)

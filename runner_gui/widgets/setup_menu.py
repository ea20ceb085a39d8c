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
from wsl_bootstrap.mirrors import CUSTOM, MIRRORS, Mirror


class SetupMenu(QMenu):
    """Filled when it is opened: what there is to choose changes.

    Signals:
        chosen(str, object): an option and its value. removal_asked(): of our own distribution.
        sources_asked(): addresses of the person's own are to be entered.
    """

    chosen = Signal(str, object)
    sources_asked = Signal()
    removal_asked = Signal()

    def __init__(self, choices: SetupChoices, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices = choices
        self._systems: QMenu | None = None
        self.aboutToShow.connect(self.fill)
        choices.systems_changed.connect(self._show_systems)

    def fill(self) -> None:
        """Write down what can be chosen now."""
        self._systems = None
        self.clear()
        options = self._choices.options
        own = (CUSTOM,) if options.custom != Mirror() else ()
        mirrors = {name: tr(f"mirror.{name}") for name in (*MIRRORS, *own)}
        self._add_group("menu.mirror", "mirror", mirrors, options.mirror)
        self._add("menu.sources").triggered.connect(self.sources_asked)
        if self._choices.windows is None:
            return
        names = {name: name for name in self._choices.distributions()}
        names[OWN_DISTRIBUTION] = tr("menu.own_distribution")
        self._add_group("menu.distribution", "distribution", names, options.distribution)
        self.addSeparator()
        size = self._choices.own_bytes()
        if size is None:
            self._systems = self._add_group("menu.system", "system", self._offered(), options.system)
            self._choices.look_for_systems()
        self._add("menu.folder").triggered.connect(self.choose_folder)
        self._add("menu.rootfs").triggered.connect(self.choose_file)
        if options.rootfs:
            self._add("menu.no_rootfs").triggered.connect(lambda: self.chosen.emit("rootfs", None))
        if size is not None:
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

    def _offered(self) -> dict[str, str]:
        return {name: name.replace("-", " ") for name in self._choices.systems}

    def _show_systems(self) -> None:
        """WSL has said what it offers, while the menu may be open."""
        if self._systems is not None:
            self._fill_group(self._systems, "system", self._offered(), self._choices.options.system)

    def _add_group(self, key: str, option: str, values: dict[str, str], current: str) -> QMenu:
        menu = self.addMenu(tr(key))
        self._fill_group(menu, option, values, current)
        return menu

    def _fill_group(self, menu: QMenu, option: str, values: dict[str, str], current: str) -> None:
        menu.clear()
        group = QActionGroup(menu)
        for value, words in values.items():
            action = menu.addAction(words)
            action.setCheckable(True)
            action.setChecked(value == current)
            action.triggered.connect(lambda _=False, new=value: self.chosen.emit(option, new))
            group.addAction(action)

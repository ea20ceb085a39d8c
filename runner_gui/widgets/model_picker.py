"""Which model is to answer, and how it stands with it."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QElapsedTimer, Qt, QTimer, Signal
from PySide6.QtWidgets import QSizePolicy, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.model_choices import ModelChoice
from runner_gui.model.serving import ServeOptions
from runner_gui.services.model_menu import ModelMenu
from runner_gui.services.model_server import ModelServer
from runner_gui.services.model_servers import ModelServers
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import CalmComboBox, ElidedLabel, IconButton, IconLabel, row

_LOOKS = {
    "off": ("dot", "muted"),
    "failed": ("error", "red"),
    "loading": ("ring", "amber"),
    "ready": ("check", "green"),
}
# How long loading takes before it is told.
TOLD_AFTER_S = 5


class ModelPicker(QWidget):
    """A menu of models; choosing one loads it.

    Args:
        menu: what there is to choose from.
        servers: what is loaded.

    Attributes:
        server: the chosen one's; None until one is chosen.
        beside: another picker, whose model is kept loaded.

    Signals:
        server_changed(): `server`, or its state, is another.
    """

    server_changed = Signal()

    def __init__(self, menu: ModelMenu, servers: ModelServers, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._menu, self._servers = menu, servers
        self.server: ModelServer | None = None
        self.beside: ModelPicker | None = None
        self._entries: list[tuple[str, ServeOptions]] = []
        self._since = QElapsedTimer()
        self._clock = QTimer(self)
        self._clock.setInterval(1000)
        self._clock.timeout.connect(self._show_state)
        self.combo = CalmComboBox()
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.icon, self.state = IconLabel("dot", "muted", 12), ElidedLabel()
        self.state.setObjectName("caption")
        self.eject = IconButton("eject", look="flat")
        across = row(self.combo, self.icon, self.state, self.eject)
        across.setStretch(0, 3)
        across.setStretch(2, 2)
        self.setLayout(across)
        self.combo.activated.connect(self._on_chosen)
        self.eject.clicked.connect(self._on_eject)
        menu.changed.connect(self._fill)
        servers.changed.connect(self._on_servers)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def load(self, options: ServeOptions) -> None:
        """Load a model and have it answer here."""
        beside = self.beside.server if self.beside is not None else None
        self._use(self._servers.open(options, beside))

    def options(self) -> ServeOptions | None:
        """What the chosen server was opened with."""
        return self._servers.options_of(self.server) if self.server is not None else None

    def follow_running(self) -> None:
        """Where nothing was chosen here, take a model that is loaded already."""
        taken = self.beside.server if self.beside is not None else None
        free = [server for server in self._servers.running() if server is not taken]
        if free and (self.server is None or not self.server.is_running):
            self._use(free[-1])

    def _use(self, server: ModelServer) -> None:
        self.server = server
        self._fill()
        self._show_state()
        self.server_changed.emit()

    def _on_servers(self) -> None:
        server = self.server
        if server is not None and not server.is_running and server.state != "failed":
            self.server = None
        self.follow_running()
        self._fill()
        self._show_state()
        self.server_changed.emit()

    def _on_chosen(self, index: int) -> None:
        options = self.combo.itemData(index)
        if isinstance(options, ServeOptions):
            self.load(options)

    def _on_eject(self) -> None:
        if self.server is not None:
            self._servers.close(self.server)

    def _fill(self) -> None:
        """The choices; what is loaded stands for its entry, or is an entry of its own."""
        current = self.options()
        titles = {_key(choice.options): _title(choice) for choice in self._menu.choices}
        wanted = {_key(choice.options): choice.options for choice in self._menu.choices}
        running = [self._servers.options_of(server) for server in self._servers.running()]
        for options in (*running, current):
            if options is not None:
                wanted[_key(options)] = options
        entries = [(titles.get(key) or _name(options), options) for key, options in wanted.items()]
        if entries != self._entries:  # else a list that is open would close
            self._entries = entries
            self.combo.clear()
            for index, (title, options) in enumerate(entries):
                self.combo.addItem(title, options)
                self.combo.setItemData(index, str(options.model), Qt.ItemDataRole.ToolTipRole)
        chosen = (index for index, (_, options) in enumerate(entries) if options == current)
        self.combo.setCurrentIndex(next(chosen, -1))

    def _show_state(self) -> None:
        server = self.server
        state = server.state if server is not None else "off"
        self.icon.set_icon(*_LOOKS[state])
        words = [tr(f"chat.state_{state}")]
        if state != "loading":
            self._since.invalidate()
            self._clock.stop()
        elif not self._since.isValid():
            self._since.start()
            self._clock.start()
        elif (seconds := self._since.elapsed() // 1000) >= TOLD_AFTER_S:
            words.append(fmt.duration(seconds))
        if server is not None and server.is_ready:
            words += [server.device.upper(), f"RWKV-{server.generation}"]
        self.state.set_full_text(" · ".join(words))
        self.eject.setEnabled(server is not None and server.is_running)

    def retranslate(self) -> None:
        self.combo.setAccessibleName(tr("chat.choose_model"))
        self.combo.setPlaceholderText(tr("chat.choose_model"))
        self.eject.set_words(tr("chat.eject"))
        self._fill()
        self._show_state()


def _key(options: ServeOptions) -> tuple[Path | None, ...]:
    """What answers; where and how it runs is another matter."""
    return options.model, options.adapter, options.state


def _title(choice: ModelChoice) -> str:
    if choice.step is None:
        return choice.name
    return tr("chat.checkpoint", run=choice.name, step=fmt.whole(choice.step))


def _name(options: ServeOptions) -> str:
    mounted = [path.parent.name if path.name == "adapter.pth" else path.stem
               for path in (options.adapter, options.state) if path is not None]  # fmt: skip
    return " + ".join((options.model.name, *mounted))

"""The configurations on disk, and the one that runs."""

from __future__ import annotations

import logging
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.model.configuration import Configuration, Configurations
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.services.model_server import ModelServer
from runner_gui.services.model_servers import ModelServers
from runner_gui.services.server_vitals import ServerVitals
from trainer.contract.errors import AppError, Problem

LOG = logging.getLogger(__name__)
SAVE_AFTER_MS = 400


class ConfigurationKeeper(QObject):
    """Keeps what is edited, runs the chosen one, and watches it.

    Args:
        servers: the window's, where whoever else talks to a model finds it.

    Signals:
        changed: there are others, another is chosen, or what runs is in another state.
        failed(object, str): a Problem or Code of a server that is gone, and its details.
    """

    changed = Signal()
    failed = Signal(object, str)

    def __init__(self, workspace: Workspace, servers: ModelServers, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._file = workspace.configurations_file
        demo = workspace.demo_model()
        first = Configuration(name=demo.stem if demo else "RWKV", model=str(demo or ""))
        self.all = Configurations.load(self._file, first)
        self._servers = servers
        self._running: tuple[str, ModelServer, ServeOptions] | None = None
        self.vitals = ServerVitals(self)
        self._saver = QTimer(self, singleShot=True, interval=SAVE_AFTER_MS)
        self._saver.timeout.connect(self.save)
        servers.changed.connect(self._on_servers)

    @property
    def server(self) -> ModelServer | None:
        """What runs, or has failed, or is on its way."""
        return self._running[1] if self._running else None

    @property
    def running_name(self) -> str:
        """The name of the configuration that runs; "" while none does."""
        return self._running[0] if self._running and self._running[1].is_running else ""

    @property
    def running_options(self) -> ServeOptions | None:
        """What the server was opened with."""
        return self._running[2] if self._running else None

    @property
    def is_outdated(self) -> bool:
        """Whether the one that runs has been edited since it was started."""
        if self._running is None or not self._running[1].is_running:
            return False
        one = next((c for c in self.all.items if c.name == self._running[0]), None)
        return one is not None and one.options() != self._running[2]

    def edited(self) -> None:
        """Something of them is another: to be kept."""
        self._saver.start()
        self.changed.emit()

    def rename(self, one: Configuration, name: str) -> None:
        """Give it another name, under which it goes on running."""
        before = one.name
        self.all.rename(one, name)
        if self._running is not None and self._running[0] == before:
            self._running = one.name, *self._running[1:]
        self.edited()

    def run(self) -> None:
        """Load the chosen one; what else was loaded gives way."""
        one = self.all.chosen
        if not one.model:
            self.failed.emit(Problem("param_required", param="base_model"), "")
            return
        options = one.options()
        server = self._servers.open(options)
        if self._running is None or self._running[1] is not server:
            server.failed.connect(self.failed)
            server.progressed.connect(self.changed)
        self._running = one.name, server, options
        self.vitals.watch(server)
        self.changed.emit()

    def use(self, model: Path) -> ServeOptions:
        """Run a model in a configuration of its own, and return what it was opened with."""
        one = self.all.for_model(model)
        self.edited()
        self.run()
        return one.options()

    def stop(self) -> None:
        """Give the model up."""
        if self._running is not None:
            server = self._running[1]
            self._forget()
            self._servers.close(server)

    def save(self) -> None:
        """Write them now."""
        self._saver.stop()
        try:
            self.all.save(self._file)
        except AppError as error:
            LOG.warning("configurations are not kept: %s", error)
            self.failed.emit(error.problem, "")

    def close(self) -> None:
        """Keep what was edited; the servers are the window's to end."""
        if self._saver.isActive():
            self.save()
        self.vitals.watch(None)

    def _on_servers(self) -> None:
        # Whoever loads another model gives this one up, and it is deleted then.
        if self._running is not None and self._servers.options_of(self._running[1]) is None:
            self._forget()
        self.changed.emit()

    def _forget(self) -> None:
        self._running = None
        self.vitals.watch(None)

"""The models that this window has loaded: whatever page asks, they are the same ones."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from runner_gui.model.serving import ServeOptions
from runner_gui.services.model_server import ModelServer
from runner_gui.services.place import Place


class ModelServers(QObject):
    """Every model server of the window.

    One model fills many a computer's memory, so loading another gives up the one before, unless both are
    wanted beside each other.

    Args:
        place: where they run; None is this computer.

    Signals:
        changed: a server was added or is gone, or its state is another.
    """

    changed = Signal()

    def __init__(self, place: Place | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._place = place
        self._servers: dict[ModelServer, ServeOptions] = {}
        self._ending: list[ModelServer] = []

    def running(self) -> list[ModelServer]:
        """Those that serve or are loading, the oldest first."""
        return [server for server in self._servers if server.is_running]

    def options_of(self, server: ModelServer) -> ServeOptions | None:
        """What a server was opened with; None for one that was given up."""
        return self._servers.get(server)

    def open(self, options: ServeOptions, beside: ModelServer | None = None) -> ModelServer:
        """Load a model, or give the server that has it already; all others end, but for `beside`."""
        found = next((s for s in self.running() if self._servers[s] == options), None)
        for server in list(self._servers):
            if server not in (found, beside):
                self.close(server)
        if found is not None:
            return found
        server = ModelServer(self._place, self)
        self._servers[server] = options
        server.state_changed.connect(self.changed)
        server.start(options)
        return server

    def close(self, server: ModelServer) -> None:
        """Give a model up."""
        if self._servers.pop(server, None) is not None:
            self._ending.append(server)
            # A slot that holds the server itself would let go of it in the middle of its own destructor.
            server.ended.connect(self._on_ended)
            server.stop()
            self.changed.emit()

    def close_all(self) -> None:
        """Give all up and wait for their end: for when the window itself goes."""
        servers, self._servers = [*self._servers, *self._ending], {}
        for server in servers:
            server.stop()  # all are told before any is waited for
        for server in servers:
            server.close()
        self.changed.emit()

    def _on_ended(self) -> None:
        ended = [server for server in self._ending if server is self.sender()]
        self._ending = [server for server in self._ending if server not in ended]
        for server in ended:
            server.deleteLater()

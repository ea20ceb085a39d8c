"""One window a work folder: a second start brings the first one forward."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from PySide6.QtCore import QLockFile, QObject, Signal
from PySide6.QtNetwork import QLocalServer, QLocalSocket

LOG = logging.getLogger(__name__)
_WAIT_MS = 3000
_WORD = b"show\n"


class SingleInstance(QObject):
    """Decides at the start who is first. The lock decides, since it is given up when its holder dies, however
    it dies; the socket only carries the wish to be shown.

    Args:
        root: the work folder; whoever uses another one is nobody's second.

    Signals:
        show_requested(): another start asks for the window.
    """

    show_requested = Signal()

    def __init__(self, root: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        # The whole path may be longer than what a socket's name can be.
        self._name = "RwkvLoraRunner-" + hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:16]
        self._server: QLocalServer | None = None
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            LOG.warning("%s cannot be made: %s", root, error)
        self._lock = QLockFile(str(root / "window.lock"))
        self._lock.setStaleLockTime(0)  # a lock is old when its process is gone, not when time has passed

    def claim(self) -> bool:
        """Whether this start is the first. Where no lock can be written (a read-only folder), it is."""
        if not self._lock.tryLock(0) and self._lock.error() == QLockFile.LockError.LockFailedError:
            return False
        QLocalServer.removeServer(self._name)  # left by one that crashed
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._on_connection)
        if not self._server.listen(self._name):
            LOG.warning("a second start will not find this window: %s", self._server.errorString())
        return True

    def ask_to_show(self) -> bool:
        """Ask the first one to come forward; whether it has heard that."""
        socket = QLocalSocket()
        socket.connectToServer(self._name)
        if not socket.waitForConnected(_WAIT_MS):
            return False
        socket.write(_WORD)
        heard = socket.waitForBytesWritten(_WAIT_MS)
        socket.disconnectFromServer()
        return heard

    def close(self) -> None:
        """Let another one be first."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._lock.unlock()

    def _on_connection(self) -> None:
        while self._server is not None and (socket := self._server.nextPendingConnection()) is not None:
            socket.disconnected.connect(socket.deleteLater)
            self.show_requested.emit()

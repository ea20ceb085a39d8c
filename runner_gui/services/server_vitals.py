"""What a running model server says of itself, asked once a second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QObject, QTimer, QUrl, Signal
from PySide6.QtNetwork import QNetworkReply, QNetworkRequest

from runner_gui.services.model_server import ModelServer

EVERY_MS = 1000


@dataclass(frozen=True, slots=True)
class Vitals:
    """Memory that the model takes, tokens a second of all answers, and how many those are."""

    memory_bytes: int = 0
    tok_s: float = 0.0
    active: int = 0
    waiting: int = 0


class ServerVitals(QObject):
    """Watches one server.

    Signals:
        changed: `vitals` is another; None while there is nothing to know.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.vitals: Vitals | None = None
        self._server: ModelServer | None = None
        self._reply: QNetworkReply | None = None
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self._ask)

    def watch(self, server: ModelServer | None) -> None:
        """Watch this server from now on, as long as it is ready; None ends it."""
        if server is self._server and (server is not None) == self._timer.isActive():
            return
        self._server = server
        self._forget()
        self._show(None)
        if server is None:
            self._timer.stop()
        else:
            self._timer.start()
            self._ask()

    def _ask(self) -> None:
        server = self._server
        if server is None or not server.is_ready or self._reply is not None:
            return
        request = QNetworkRequest(QUrl(f"{server.url}/health"))
        request.setRawHeader(b"Authorization", f"Bearer {server.key}".encode())
        request.setTransferTimeout(5 * EVERY_MS)
        self._reply = server.network.get(request)
        self._reply.finished.connect(self._on_finished)

    def _on_finished(self) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if reply.error() == QNetworkReply.NetworkError.NoError:
            self._show(_read(bytes(reply.readAll().data())))
        reply.deleteLater()

    def _forget(self) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.abort()
            reply.deleteLater()

    def _show(self, vitals: Vitals | None) -> None:
        if vitals != self.vitals:
            self.vitals = vitals
            self.changed.emit()


def _read(raw: bytes) -> Vitals | None:
    try:
        told: Any = json.loads(raw)
        return Vitals(
            int(told["memory_bytes"]), float(told["tok_s"]), int(told["active"]), int(told["waiting"])
        )
    except (ValueError, KeyError, TypeError):
        return None

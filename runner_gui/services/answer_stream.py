"""One request to a model server, answered piece by piece."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from PySide6.QtCore import QObject, QTimer, QUrl, Signal
from PySide6.QtNetwork import QNetworkReply, QNetworkRequest

from runner_gui.model.problems import AnyProblem
from runner_gui.services.model_server import ModelServer
from runner_gui.services.sse import SseParser
from trainer.contract.errors import CODES, Problem

DONE = "[DONE]"
_LAST_WORDS_MS = 3000
Kind = Literal["chat", "text"]
_PATHS: dict[Kind, str] = {"chat": "/v1/chat/completions", "text": "/v1/completions"}


class AnswerStream(QObject):
    """Asks a server that is ready and tells what it says. Used once.

    Args:
        server: is asked at once.
        kind: "chat" for messages, "text" for a text to go on with.
        body: `messages` or `prompt`, and sampling, as OpenAI's API names them; `n` for several choices.

    Attributes:
        usage: counts of tokens as the API names them, at the end.

    Signals:
        text_received(int, str): a choice's number, and its next piece.
        choice_ended(int, str): a choice's number, and why it ended: stop or length.
        finished(str): all have ended; the last one's reason, or "cancelled".
        failed(object, str): a Problem and its details; what has come stays.

    Raises:
        RuntimeError: the server is not ready.
    """

    text_received = Signal(int, str)
    choice_ended = Signal(int, str)
    finished = Signal(str)
    failed = Signal(object, str)

    def __init__(
        self, server: ModelServer, kind: Kind, body: Mapping[str, Any], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        if not server.is_ready:
            raise RuntimeError("not ready to be asked")
        self._server = server
        self._sse, self._raw, self._reason = SseParser(), b"", ""
        self._error: Problem | None = None
        self.usage: dict[str, Any] | None = None
        request = QNetworkRequest(QUrl(server.url + _PATHS[kind]))
        request.setHeader(QNetworkRequest.KnownHeaders.ContentTypeHeader, "application/json")
        if server.key:
            request.setRawHeader(b"Authorization", f"Bearer {server.key}".encode())
        options = {"include_usage": True}
        value = {**body, "model": server.name, "stream": True, "stream_options": options}
        self._reply: QNetworkReply | None = server.network.post(request, json.dumps(value).encode())
        # Slots that hold the reply itself would let go of it in the middle of its own destructor.
        self._reply.readyRead.connect(self._on_data)
        self._reply.finished.connect(self._on_reply_finished)

    @property
    def is_running(self) -> bool:
        return self._reply is not None

    def cancel(self) -> None:
        """End the answer that is coming; what has come stays."""
        if self._reply is not None:
            self._reason = "cancelled"
            self._reply.abort()

    def _on_data(self) -> None:
        reply = self._reply
        if reply is None:
            return
        chunk = bytes(reply.readAll().data())
        if reply.attribute(QNetworkRequest.Attribute.HttpStatusCodeAttribute) != 200:
            self._raw += chunk
            return
        try:
            for data in self._sse.feed(chunk):
                self._take(data)
        except ValueError as error:
            self._error = Problem("internal", {"detail": str(error)})
            reply.abort()

    def _take(self, data: str) -> None:
        if data == DONE:
            return
        value = json.loads(data)
        if "error" in value:
            self._error = _problem_of(value)
            return
        self.usage = value.get("usage") or self.usage
        for choice in value.get("choices", ()):
            index = int(choice.get("index") or 0)
            if piece := choice.get("text") or (choice.get("delta") or {}).get("content"):
                self.text_received.emit(index, piece)
            if reason := choice.get("finish_reason"):
                self._reason = str(reason)
                self.choice_ended.emit(index, self._reason)

    def _on_reply_finished(self) -> None:
        reply = self._reply
        if reply is None:
            return
        if reply.isOpen():
            self._on_data()
        self._reply = None
        broken = reply.errorString()
        reply.deleteLater()
        if self._error is not None:
            self._fail(self._error)
        elif self._reason:
            self.finished.emit(self._reason)
        elif self._raw:
            self._fail(_body_problem(self._raw, broken))
        else:
            self._wait_for_last_words(broken)

    def _wait_for_last_words(self, broken: str) -> None:
        """The line broke. Where the server itself has ended, its own last words say more than that."""
        self._error = Problem("internal", {"detail": broken})
        if self._server.is_running:
            waiting = QTimer(self, singleShot=True)
            waiting.timeout.connect(self._give_up)
            self._server.state_changed.connect(self._give_up)
            waiting.start(_LAST_WORDS_MS)
        else:
            QTimer.singleShot(0, self, self._give_up)

    def _give_up(self) -> None:
        if self._error is not None:
            self._fail(self._server.problem or self._error)
            self._error = None

    def _fail(self, problem: AnyProblem) -> None:
        self.failed.emit(problem, self._raw.decode("utf-8", errors="replace"))


def _body_problem(raw: bytes, otherwise: str) -> Problem:
    try:
        value = json.loads(raw)
    except ValueError:
        return Problem("internal", {"detail": otherwise})
    return _problem_of(value if isinstance(value, dict) else {})


def _problem_of(value: Mapping[str, Any]) -> Problem:
    """The problem in an error body of OpenAI's form; a code of ours without its facts is told as it was."""
    error = value.get("error")
    error = error if isinstance(error, dict) else {}
    code, message = error.get("code"), str(error.get("message") or value)
    return (
        Problem(code)
        if code in ("oom_ram", "oom_vram") and code in CODES
        else Problem("internal", {"detail": message})
    )

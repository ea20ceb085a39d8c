"""Talks with a model that the trainer's server has loaded: one server, one question at a time."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, QUrl, Signal
from PySide6.QtNetwork import QNetworkAccessManager, QNetworkProxy, QNetworkReply, QNetworkRequest

from runner_gui.model.problems import AnyProblem
from runner_gui.model.serving import ServeOptions
from runner_gui.services import commands
from runner_gui.services.commands import Command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.place import Here, Place
from runner_gui.services.process import JobProcess
from runner_gui.services.sse import SseParser
from trainer.contract.errors import CODES, Problem
from trainer.contract.events import Event
from trainer.contract.files import disk_error
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.hosts.base import HostError
from wsl_bootstrap.step import StepError

LOG = logging.getLogger(__name__)
API_KEY_VARIABLE = "RWKV_API_KEY"
DONE = "[DONE]"
_BRING_ENDS_S = 10.0


class ChatService(QObject):
    """Loads a model, or a base with an adapter, and streams its answers.

    Args:
        place: where the server runs; None is this computer, with the window's own Python.

    Signals:
        ready: the model is loaded and can be asked.
        token_received: a piece of the answer.
        answer_finished: why the answer ended: stop, length or cancelled.
        failed: a Problem and its details; the answer, or the server, is gone.
    """

    ready = Signal()
    token_received = Signal(str)
    answer_finished = Signal(str)
    failed = Signal(object, str)

    _brought = Signal(object, object)

    def __init__(self, place: Place | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._place = place or Here()
        self._bringing: tuple[threading.Thread, CancelToken] | None = None
        self._brought.connect(self._start_server)
        self._network = QNetworkAccessManager(self)
        # The server is on this computer: a proxy that the system knows must not see the talk.
        self._network.setProxy(QNetworkProxy(QNetworkProxy.ProxyType.NoProxy))
        self._job: JobProcess | None = None
        self._key = ""
        self._url = ""
        self._model = ""
        self._reply: QNetworkReply | None = None
        self._sse = SseParser()
        self._raw = b""
        self._reason = ""
        self._error: Problem | None = None

    @property
    def is_ready(self) -> bool:
        return self._url != ""

    @property
    def is_answering(self) -> bool:
        return self._reply is not None

    def start(self, model: Path, adapter: Path | None = None) -> None:
        """Load a model in a server of its own; another one that was loaded is given up."""
        self.close()
        # Only this window may ask: whoever else is on this computer does not have the key.
        self._key = secrets.token_urlsafe(24)
        cancel = CancelToken()
        thread = threading.Thread(target=self._bring, args=(model, adapter, cancel), daemon=True)
        self._bringing = thread, cancel
        thread.start()

    def _bring(self, model: Path, adapter: Path | None, cancel: CancelToken) -> None:
        """In a thread of its own: have the model where it is read fast, which may take minutes once."""
        try:
            name = self._place.bring([model], lambda _: None, cancel)
            args = commands.serve_args(ServeOptions(model, adapter), name)
            brought: Command | AnyProblem = self._place.trainer(
                args, model, env={API_KEY_VARIABLE: self._key}
            )
        except CancelledError:
            return
        except (StepError, HostError) as error:
            brought = error.code
        except OSError as error:
            brought = disk_error(error, model).problem
        self._brought.emit(cancel, brought)

    def _start_server(self, cancel: CancelToken, command: Command | AnyProblem) -> None:
        if cancel.cancelled:
            return
        if not isinstance(command, Command):
            self.failed.emit(command, "")
            return
        job = JobProcess(command, self)
        job.event_received.connect(self._on_event)
        job.finished.connect(self._on_server_ended)
        self._job = job
        job.start()

    def ask(self, messages: Sequence[Mapping[str, str]], sampling: Mapping[str, Any] | None = None) -> None:
        """Ask for the next answer of a conversation.

        Args:
            messages: `role` ("system", "user" or "assistant") and `content` of each turn.
            sampling: temperature, top_p, max_tokens, seed, … as OpenAI's API names them.

        Raises:
            RuntimeError: no model is ready, or an answer is still coming.
        """
        if not self.is_ready or self._reply is not None:
            raise RuntimeError("not ready to be asked")
        request = QNetworkRequest(QUrl(f"{self._url}/v1/chat/completions"))
        request.setHeader(QNetworkRequest.KnownHeaders.ContentTypeHeader, "application/json")
        request.setRawHeader(b"Authorization", f"Bearer {self._key}".encode())
        body = {**(sampling or {}), "model": self._model, "messages": list(messages), "stream": True}
        self._sse, self._raw, self._reason, self._error = SseParser(), b"", "", None
        reply = self._reply = self._network.post(request, json.dumps(body).encode())
        # Slots that hold the reply itself would let go of it in the middle of its own destructor.
        reply.readyRead.connect(self._on_data)
        reply.finished.connect(self._on_reply_finished)

    def cancel(self) -> None:
        """End the answer that is coming; what has come stays."""
        if self._reply is not None:
            self._reason = "cancelled"
            self._reply.abort()

    def close(self) -> None:
        """Give the model up and end its server."""
        if self._bringing is not None:
            thread, cancel = self._bringing
            cancel.cancel()
            thread.join(_BRING_ENDS_S)
            self._bringing = None
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.abort()
            reply.deleteLater()
        job, self._job = self._job, None
        self._url = ""
        if job is not None:
            job.close()
            job.deleteLater()

    def _on_event(self, event: Event) -> None:
        if event.t == "ready" and self.sender() is self._job:
            self._url = f"http://{event['host']}:{event['port']}"
            self._model = str(event.get("model") or "")
            self.ready.emit()

    def _on_server_ended(self, outcome: JobOutcome) -> None:
        job = self._job
        if job is None or self.sender() is not job:
            return
        self._job = None
        self._url = ""
        job.deleteLater()
        problem = outcome.problem or Problem("internal", {"detail": f"exit status {outcome.exit_code}"})
        # Told from the event loop: the reply that broke with the server reports itself first.
        QTimer.singleShot(0, self, lambda: self.failed.emit(problem, outcome.details()))

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
        for choice in value.get("choices", ()):
            if piece := (choice.get("delta") or {}).get("content"):
                self.token_received.emit(piece)
            if reason := choice.get("finish_reason"):
                self._reason = str(reason)

    def _on_reply_finished(self) -> None:
        reply = self._reply
        if reply is None:
            return
        if reply.isOpen():
            self._on_data()
        self._reply = None
        reply.deleteLater()
        if self._error is None and not self._reason:
            self._error = _body_problem(self._raw, reply.errorString())
        if self._reason and self._error is None:
            self.answer_finished.emit(self._reason)
        elif self._job is not None and self._error is not None:
            # Where the server itself has ended, its own last words say more than the broken line.
            self.failed.emit(self._error, self._raw.decode("utf-8", errors="replace"))


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

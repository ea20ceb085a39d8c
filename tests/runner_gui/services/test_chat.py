"""The chat with the real server on a tiny model, and with servers that misbehave."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytestqt.qtbot import QtBot

from runner_gui.services import commands
from runner_gui.services.chat import ChatService
from runner_gui.services.commands import Command
from trainer.contract.errors import Problem

SECONDS = 60_000
QUESTION = [{"role": "user", "content": "你好 hello"}]

# A server that says it is ready and answers as its argument says.
SERVER = r"""
import http.server, os, sys
how = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if how == "refuse":
            body = b'{"error": {"message": "too long", "type": "invalid", "code": "context_length"}}'
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        piece = 'data: {"choices": [{"delta": {"content": "界"}, "finish_reason": null}]}\n\n'.encode()
        for at in range(len(piece)):
            self.wfile.write(piece[at : at + 1])
            self.wfile.flush()
        if how == "die":
            os._exit(7)
        if how == "error":
            self.wfile.write(b'data: {"error": {"message": "no memory", "code": "oom_ram"}}\n\n')
            self.wfile.write(b"data: [DONE]\n\n")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
port = server.server_address[1]
line = '\x1e{"v":1,"seq":0,"ts":1.0,"t":"ready","host":"127.0.0.1","port":%d,"model":"m"}\n' % port
os.write(1, line.encode())
server.serve_forever()
"""


class Heard:
    """Everything that a chat tells."""

    def __init__(self, chat: ChatService) -> None:
        self.text = ""
        self.reasons: list[str] = []
        self.failed: list[tuple[Problem, str]] = []
        chat.token_received.connect(self._add)
        chat.answer_finished.connect(self.reasons.append)
        chat.failed.connect(lambda problem, details: self.failed.append((problem, details)))

    def _add(self, piece: str) -> None:
        self.text += piece


@pytest.fixture
def chat(qtbot: QtBot) -> Iterator[ChatService]:
    chat = ChatService()
    yield chat
    chat.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny 模型.pth"
    make_checkpoint(path, n_layer=1, n_embd=64, vocab=65536, dtype="fp32")
    return path


@pytest.fixture
def serve(chat: ChatService, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot) -> Callable[[str], None]:
    def begin(how: str) -> None:
        monkeypatch.setattr(
            commands, "trainer_command", lambda *_, **__: Command((sys.executable, "-c", SERVER, how))
        )
        with qtbot.waitSignal(chat.ready, timeout=SECONDS):
            chat.start(Path("any"))

    return begin


def test_answers_stream_end_and_can_be_called_off(qtbot: QtBot, chat: ChatService, model: Path) -> None:
    heard = Heard(chat)
    others = psutil.Process().children()  # runs that another test's window left to themselves
    assert not chat.is_ready
    with pytest.raises(RuntimeError):
        chat.ask(QUESTION)
    with qtbot.waitSignal(chat.ready, timeout=SECONDS):
        chat.start(model)
    chat.ask(QUESTION, {"max_tokens": 5, "temperature": 1.0, "seed": 1})
    assert chat.is_answering
    with pytest.raises(RuntimeError):
        chat.ask(QUESTION)
    qtbot.waitUntil(lambda: bool(heard.reasons or heard.failed), timeout=SECONDS)
    assert heard.failed == []
    assert heard.reasons == ["length"]
    assert heard.text != ""

    chat.ask(QUESTION, {"max_tokens": 100_000, "temperature": 1.0})
    with qtbot.waitSignal(chat.token_received, timeout=SECONDS):
        pass
    chat.cancel()
    qtbot.waitUntil(lambda: len(heard.reasons) == 2, timeout=SECONDS)
    assert heard.reasons == ["length", "cancelled"]
    assert heard.failed == []
    assert not chat.is_answering

    # The same seed gives the same answer, and the server goes on after what was called off.
    first, heard.text = heard.text, ""
    chat.ask(QUESTION, {"max_tokens": 5, "temperature": 1.0, "seed": 1})
    qtbot.waitUntil(lambda: len(heard.reasons) == 3, timeout=SECONDS)
    assert first.startswith(heard.text)
    servers = [child for child in psutil.Process().children() if child not in others]
    chat.close()
    assert not chat.is_ready
    assert servers
    assert all(not server.is_running() for server in servers)
    assert heard.failed == []


def test_a_model_that_is_not_there_is_told(qtbot: QtBot, chat: ChatService) -> None:
    heard = Heard(chat)
    chat.start(Path("/no/such/model.pth"))
    qtbot.waitUntil(lambda: bool(heard.failed), timeout=SECONDS)
    assert heard.failed[0][0] == Problem("model_not_found", {"path": "/no/such/model.pth"})
    assert not chat.is_ready


def test_pieces_cut_in_a_character_and_an_error_in_the_stream(
    qtbot: QtBot, chat: ChatService, serve: Callable[[str], None]
) -> None:
    serve("error")
    heard = Heard(chat)
    chat.ask(QUESTION)
    qtbot.waitUntil(lambda: bool(heard.failed), timeout=SECONDS)
    assert heard.text == "界"
    assert [problem for problem, _ in heard.failed] == [Problem("oom_ram")]
    assert heard.reasons == []
    assert not chat.is_answering


def test_a_refusal_carries_the_servers_words(
    qtbot: QtBot, chat: ChatService, serve: Callable[[str], None]
) -> None:
    serve("refuse")
    heard = Heard(chat)
    chat.ask(QUESTION)
    qtbot.waitUntil(lambda: bool(heard.failed), timeout=SECONDS)
    assert heard.failed[0][0] == Problem("internal", {"detail": "too long"})


def test_a_server_that_dies_is_told_once(
    qtbot: QtBot, chat: ChatService, serve: Callable[[str], None]
) -> None:
    serve("die")
    heard = Heard(chat)
    chat.ask(QUESTION)
    qtbot.waitUntil(lambda: bool(heard.failed) and not chat.is_ready, timeout=SECONDS)
    qtbot.wait(200)
    assert heard.text == "界"
    assert heard.reasons == []
    assert not chat.is_answering
    assert "exit status 7" in heard.failed[-1][1]

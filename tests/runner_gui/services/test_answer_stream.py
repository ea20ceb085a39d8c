"""Answers of the real server on a tiny model, and of servers that misbehave."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytestqt.qtbot import QtBot

from runner_gui.model.serving import ServeOptions
from runner_gui.services import commands
from runner_gui.services.answer_stream import AnswerStream, Kind
from runner_gui.services.commands import Command
from runner_gui.services.model_server import ModelServer
from trainer.contract.errors import Problem

SECONDS = 60_000
QUESTION = {"messages": [{"role": "user", "content": "你好 hello"}]}

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
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that leaves is what these tests are about
server = Server(("127.0.0.1", 0), Handler)
port = server.server_address[1]
line = '\x1e{"v":1,"seq":0,"ts":1.0,"t":"ready","host":"127.0.0.1","port":%d,"model":"m"}\n' % port
os.write(1, line.encode())
server.serve_forever()
"""


class Heard:
    """Everything that an answer tells."""

    def __init__(self, server: ModelServer, body: dict[str, Any], kind: Kind = "chat") -> None:
        self.texts: dict[int, str] = {}
        self.ended: dict[int, str] = {}
        self.finished: list[str] = []
        self.failed: list[tuple[Problem, str]] = []
        self.stream = AnswerStream(server, kind, body, server)
        self.stream.text_received.connect(self._add)
        self.stream.choice_ended.connect(self.ended.__setitem__)
        self.stream.finished.connect(self.finished.append)
        self.stream.failed.connect(lambda problem, details: self.failed.append((problem, details)))

    def _add(self, index: int, piece: str) -> None:
        self.texts[index] = self.texts.get(index, "") + piece

    def wait(self, qtbot: QtBot) -> Heard:
        qtbot.waitUntil(lambda: bool(self.finished or self.failed), timeout=SECONDS)
        assert not self.stream.is_running
        return self


@pytest.fixture
def server(qtbot: QtBot) -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny 模型.pth"
    make_checkpoint(path, n_layer=1, n_embd=64, vocab=65536, dtype="fp32")
    return path


def load(server: ModelServer, qtbot: QtBot, model: Path = Path("any")) -> None:
    server.start(ServeOptions(model))
    qtbot.waitUntil(lambda: server.is_ready, timeout=SECONDS)


@pytest.fixture
def serve(server: ModelServer, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot) -> Callable[[str], None]:
    def begin(how: str) -> None:
        monkeypatch.setattr(
            commands, "trainer_command", lambda *_, **__: Command((sys.executable, "-c", SERVER, how))
        )
        load(server, qtbot)

    return begin


def test_answers_stream_end_and_can_be_called_off(qtbot: QtBot, server: ModelServer, model: Path) -> None:
    with pytest.raises(RuntimeError):
        AnswerStream(server, "chat", QUESTION)
    load(server, qtbot, model)
    sampling = {"max_tokens": 5, "temperature": 1.0, "seed": 1}
    heard = Heard(server, {**QUESTION, **sampling}).wait(qtbot)
    assert (heard.failed, heard.finished, heard.ended) == ([], ["length"], {0: "length"})
    assert heard.texts[0] != ""

    endless = Heard(
        server, {**QUESTION, "max_tokens": 100_000, "temperature": 1.0, "logit_bias": {"0": -100}}
    )
    beside = Heard(server, {**QUESTION, **sampling}).wait(qtbot)
    assert beside.texts == heard.texts
    qtbot.waitUntil(lambda: bool(endless.texts), timeout=SECONDS)
    endless.stream.cancel()
    endless.wait(qtbot)
    assert (endless.finished, endless.failed) == (["cancelled"], [])


def test_several_choices_of_one_text(qtbot: QtBot, server: ModelServer, model: Path) -> None:
    load(server, qtbot, model)
    body = {
        "prompt": "从前 one day",
        "n": 3,
        "max_tokens": 6,
        "seed": 3,
        "top_p": 1,
        "logit_bias": {"0": -100},
    }
    heard = Heard(server, body, "text").wait(qtbot)
    assert set(heard.texts) == {0, 1, 2}
    assert len(set(heard.texts.values())) == 3
    assert heard.ended == dict.fromkeys(range(3), "length")


def test_pieces_cut_in_a_character_and_an_error_in_the_stream(
    qtbot: QtBot, server: ModelServer, serve: Callable[[str], None]
) -> None:
    serve("error")
    heard = Heard(server, QUESTION).wait(qtbot)
    assert heard.texts == {0: "界"}
    assert [problem for problem, _ in heard.failed] == [Problem("oom_ram")]
    assert heard.finished == []


def test_a_refusal_carries_the_servers_words(
    qtbot: QtBot, server: ModelServer, serve: Callable[[str], None]
) -> None:
    serve("refuse")
    heard = Heard(server, QUESTION).wait(qtbot)
    assert heard.failed[0][0] == Problem("internal", {"detail": "too long"})


def test_a_server_that_dies_is_told_with_its_own_last_words(
    qtbot: QtBot, server: ModelServer, serve: Callable[[str], None]
) -> None:
    serve("die")
    told: list[tuple[Problem, str]] = []
    server.failed.connect(lambda problem, details: told.append((problem, details)))
    heard = Heard(server, QUESTION).wait(qtbot)
    qtbot.waitUntil(lambda: bool(told), timeout=SECONDS)
    assert heard.texts == {0: "界"}
    assert server.state == "failed"
    assert [problem for problem, _ in heard.failed] == [told[0][0]]
    assert "exit status 7" in told[0][1]


def test_stopping_the_server_ends_its_process_and_its_answers(
    qtbot: QtBot, server: ModelServer, model: Path
) -> None:
    load(server, qtbot, model)
    process = psutil.Process(server.pid)
    heard = Heard(server, {**QUESTION, "max_tokens": 100_000, "logit_bias": {"0": -100}})
    qtbot.waitUntil(lambda: bool(heard.texts), timeout=SECONDS)
    with qtbot.waitSignal(server.ended, timeout=SECONDS):
        server.stop()
    heard.wait(qtbot)
    assert server.state == "off"
    assert not process.is_running()

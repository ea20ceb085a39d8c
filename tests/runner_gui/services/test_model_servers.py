"""The window's models: one at a time, or two beside each other, with the real server."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytestqt.qtbot import QtBot

from runner_gui.model.serving import ServeOptions
from runner_gui.services.model_server import ModelServer
from runner_gui.services.model_servers import ModelServers
from trainer.contract.errors import Problem

SECONDS = 60_000


@pytest.fixture
def servers(qtbot: QtBot) -> Iterator[ModelServers]:
    servers = ModelServers()
    yield servers
    servers.close_all()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> list[Path]:
    paths = [tmp_path_factory.mktemp("models") / name for name in ("one.pth", "two.pth")]
    for seed, path in enumerate(paths):
        make_checkpoint(path, n_layer=1, n_embd=64, vocab=65536, dtype="fp32", seed=seed)
    return paths


def ready(qtbot: QtBot, *servers: ModelServer) -> None:
    qtbot.waitUntil(lambda: all(server.is_ready for server in servers), timeout=SECONDS)


def test_one_model_gives_way_to_the_next_unless_both_are_wanted(
    qtbot: QtBot, servers: ModelServers, models: list[Path]
) -> None:
    first = servers.open(ServeOptions(models[0]))
    ready(qtbot, first)
    assert (first.name, first.generation, first.device) == ("one", "7", "cpu")
    assert servers.open(ServeOptions(models[0])) is first
    second = servers.open(ServeOptions(models[1]), beside=first)
    ready(qtbot, first, second)
    assert servers.running() == [first, second]
    process = psutil.Process(first.pid)
    assert servers.open(ServeOptions(models[1])) is second
    assert servers.running() == [second]
    qtbot.waitUntil(lambda: not process.is_running(), timeout=SECONDS)


def test_a_port_that_another_program_has_is_left_to_it(
    qtbot: QtBot, servers: ModelServers, models: list[Path]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = servers.open(ServeOptions(models[0], port=port, api_key=""))
        ready(qtbot, server)
        assert server.port not in (0, port)
        with urllib.request.urlopen(f"{server.url}/v1/models") as response:
            assert response.status == 200


def test_only_who_has_the_key_may_ask(qtbot: QtBot, servers: ModelServers, models: list[Path]) -> None:
    server = servers.open(ServeOptions(models[0]))
    ready(qtbot, server)
    assert server.key
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.url}/v1/models")
    assert caught.value.code == 401
    caught.value.close()


def test_a_model_that_is_not_there_is_told(qtbot: QtBot, servers: ModelServers) -> None:
    server = servers.open(ServeOptions(Path("/no/such/model.pth")))
    with qtbot.waitSignal(server.failed, timeout=SECONDS) as told:
        pass
    problem, _ = told.args
    assert problem == server.problem == Problem("model_not_found", {"path": "/no/such/model.pth"})
    assert servers.running() == []
    # Asked for again, it is tried again.
    assert servers.open(ServeOptions(Path("/no/such/model.pth"))) is not server

"""The Config page, with the real server of a small model."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language
from runner_gui.model.shelf import ShelfEntry
from runner_gui.model.workspace import Workspace
from runner_gui.pages.config import ConfigPage
from runner_gui.services.configurations import ConfigurationKeeper
from runner_gui.services.model_servers import ModelServers
from trainer.contract.errors import Problem

SECONDS = 60_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("模型") / "tiny.pth"
    make_checkpoint(path, n_layer=1, n_embd=64, vocab=65536, dtype="fp32")
    return path


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "w")
    made.prepare()
    return made


@pytest.fixture
def servers(qtbot: QtBot) -> Iterator[ModelServers]:
    made = ModelServers()
    yield made
    made.close_all()


@pytest.fixture
def page(
    dressed: QApplication, qtbot: QtBot, space: Workspace, servers: ModelServers, model: Path
) -> Iterator[ConfigPage]:
    keeper = ConfigurationKeeper(space, servers)
    one = keeper.all.chosen
    one.model, one.device, one.name = str(model), "cpu", "mine"
    one.port = free_port()
    made = ConfigPage(keeper)
    qtbot.addWidget(made)
    made.resize(1100, 700)
    made.show()
    yield made
    keeper.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def ready(page: ConfigPage, qtbot: QtBot) -> Any:
    qtbot.waitUntil(lambda: page.keeper.server is not None and page.keeper.server.is_ready, timeout=SECONDS)
    return page.keeper.server


def facts(page: ConfigPage) -> str:
    from PySide6.QtWidgets import QLabel

    return "\n".join(shown.text() for shown in page.side.findChildren(QLabel) if shown.isVisible())


def ask(server: Any, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{server.url}/v1/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_run_watch_and_stop(page: ConfigPage, qtbot: QtBot) -> None:
    wanted = page.keeper.all.chosen.port
    page.keeper.all.chosen.sampling.max_tokens = 4
    page.run.click()
    assert page.run.text() == "Stop"
    server = ready(page, qtbot)
    assert server.port == wanted
    assert page.words.text() == "Running."
    assert ask(server, prompt="a")["usage"]["completion_tokens"] == 4  # its own default
    qtbot.waitUntil(lambda: "MB" in facts(page), timeout=SECONDS)
    assert f"http://127.0.0.1:{wanted}/v1" in facts(page)
    assert "cpu" in facts(page)
    ask(server, prompt="a", max_tokens=200)
    qtbot.waitUntil(lambda: "tokens/s" in facts(page), timeout=SECONDS)
    page.copy_address.click()
    assert QGuiApplication.clipboard().text() == f"http://127.0.0.1:{wanted}/v1"
    process = psutil.Process(server.pid)
    page.run.click()
    assert page.run.text() == "Run"
    qtbot.waitUntil(lambda: not process.is_running(), timeout=SECONDS)


def test_a_strangers_port_is_left_alone(page: ConfigPage, qtbot: QtBot) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0)
        page.keeper.all.chosen.port = taken = stranger.getsockname()[1]
        page.run.click()
        server = ready(page, qtbot)
        assert server.port != taken
        assert f"Another program has port {taken}" in page.words.text()
        with pytest.raises(BlockingIOError):
            stranger.accept()  # nobody has even asked it


def test_a_crash_is_shown_with_what_to_do(page: ConfigPage, qtbot: QtBot) -> None:
    page.run.click()
    server = ready(page, qtbot)
    os.kill(server.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert page.banner.notice is not None
    assert page.banner.notice.problem == Problem("server_killed", {"signal": "SIGKILL"})
    assert page.words.text().startswith("It has ended by itself")
    assert page.run.text() == "Run"
    page.banner.buttons[0].click()
    ready(page, qtbot)
    assert page.banner.notice is None


def test_a_model_that_is_gone_is_told(page: ConfigPage, qtbot: QtBot) -> None:
    page.keeper.all.chosen.model = "/nowhere/m.pth"
    page.run.click()
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert "m.pth" in page.banner.title.text() + page.banner.body.text()
    page.keeper.all.chosen.model = ""
    page.run.click()
    assert page.banner.notice is not None


def test_edits_while_it_runs_wait_for_a_restart(page: ConfigPage, qtbot: QtBot) -> None:
    page.run.click()
    first = ready(page, qtbot)
    assert not page.again.isVisible()
    page.form.fields["temperature"].setValue(0.5)  # type: ignore[attr-defined]
    assert page.again.isVisible()
    page.again.click()
    qtbot.waitUntil(
        lambda: page.keeper.server is not first and ready(page, qtbot) is not None, timeout=SECONDS
    )
    assert not page.again.isVisible()


def test_another_model_of_the_window_takes_its_place(
    page: ConfigPage, servers: ModelServers, qtbot: QtBot, model: Path
) -> None:
    from runner_gui.model.serving import ServeOptions

    page.run.click()
    ready(page, qtbot)
    servers.open(ServeOptions(model))
    assert page.keeper.server is None
    assert page.run.text() == "Run"


def test_new_rename_delete(page: ConfigPage, space: Workspace, qtbot: QtBot) -> None:
    page.new.click()
    assert page.keeper.all.chosen.name == "mine (copy)"
    page.form.name.setText("二")
    page.form.name.editingFinished.emit()
    assert page.choice.currentText() == "二"
    qtbot.waitUntil(space.configurations_file.is_file, timeout=SECONDS)
    assert "二" in space.configurations_file.read_text("utf-8")
    page.choice.setCurrentIndex(0)
    page.choice.activated.emit(0)
    assert page.keeper.all.chosen.name == "mine"
    question = page.ask_delete()
    question.buttons["delete"].click()
    assert [one.name for one in page.keeper.all.items] == ["二"]
    assert not page.delete.isEnabled()


def test_the_form_offers_what_fits(page: ConfigPage, model: Path) -> None:
    shelf = [
        ShelfEntry(model, "base", 1, 1.0, "7", 10, "bf16"),
        ShelfEntry(Path("/m/six.pth"), "base", 1, 1.0, "6", 10, "bf16"),
        ShelfEntry(Path("/a/good.pth"), "adapter", 1, 1.0, "7", 5, "fp32", 8, ("tiny.pth", "", 3)),
        ShelfEntry(Path("/a/other.pth"), "adapter", 1, 1.0, "7", 5, "fp32", 8, ("big.pth", "", 3)),
        ShelfEntry(Path("/a/state.pth"), "adapter", 1, 1.0, None, 5, "fp32", is_state=True),
        ShelfEntry(Path("/m/bad.pth"), "refused", 1, 1.0),
    ]
    page.take_shelf(shelf)
    offered = {name: [box.itemText(i) for i in range(box.count())] for name, box in page.form.files.items()}
    assert offered == {
        "model": ["tiny.pth", "six.pth"], "adapter": ["none", "good.pth"], "state": ["none", "state.pth"]
    }  # fmt: skip
    page.form.files["adapter"].setCurrentIndex(1)
    page.form.files["adapter"].activated.emit(1)
    assert page.keeper.all.chosen.adapter == str(Path("/a/good.pth"))
    assert page.form.alpha.isEnabled()
    page.form.files["model"].setCurrentIndex(1)
    page.form.files["model"].activated.emit(1)
    assert page.keeper.all.chosen.adapter == ""


def test_precision_follows_the_device(page: ConfigPage) -> None:
    form = page.form
    for device, shown in (
        ("cuda", ["automatic", "bf16", "fp16", "fp32"]),
        ("cpu", ["automatic", "fp32", "bf16"]),
    ):
        form.device.setCurrentIndex(form.device.findData(device))
        form.device.activated.emit(0)
        assert [form.precision.itemText(i) for i in range(form.precision.count())] == shown
    form.precision.setCurrentIndex(2)
    form.precision.activated.emit(2)
    form.device.setCurrentIndex(0)
    form.device.activated.emit(0)
    assert page.keeper.all.chosen.precision == "auto"


def test_opening_to_the_network_draws_a_key(page: ConfigPage) -> None:
    page.form.exposed.click()
    assert len(page.keeper.all.chosen.api_key) > 20
    page.form.api_key.clear()
    page.form.api_key.textEdited.emit("")
    assert page.form.note.isVisibleTo(page.form)
    set_language("zh_CN")
    assert "密钥" in page.form.note.text()

"""From one page to another: the sample from Home, a merged model in use, failures told where one looks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.window import PAGES, MainWindow

SECONDS = 120_000


@pytest.fixture
def window(dressed: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[MainWindow]:
    made = MainWindow(Workspace(tmp_path / "工作"), Settings(language="en", guide_seen=True))
    made._loaded = True
    made.show()
    yield made
    if made.pipeline.is_training:
        made.pipeline.stop(save=False)
        qtbot.waitUntil(lambda: not made.pipeline.is_training, timeout=SECONDS)
    made._closing = True
    made.close()
    made.deleteLater()


def page(window: MainWindow) -> str:
    return PAGES[window.pages.currentIndex()]


def test_one_press_trains_on_the_sample(window: MainWindow, qtbot: QtBot) -> None:
    assert PAGES[0] == "home"
    assert page(window) == "train"  # where the window opens
    window.show_page("home")
    window.train_page.form_state.set("data", "/somewhere/else.jsonl")
    window.home_page.sample.click()
    assert page(window) == "train"
    assert window.train_page.form_state.values["data"] == str(window.workspace.demo_data())
    qtbot.waitUntil(lambda: window.pipeline.is_training, timeout=SECONDS)
    window.show_page("home")
    qtbot.waitUntil(lambda: bool(window.home_page.now.lines), timeout=SECONDS)
    assert not window.home_page.sample.isEnabled()


def test_a_merged_model_is_used_in_its_own_configuration_and_ends_with_the_window(
    window: MainWindow, qtbot: QtBot, make_checkpoint: Callable[..., Any]
) -> None:
    window.workspace.prepare()
    model = window.workspace.models / "base-LoRA-run-5.pth"
    make_checkpoint(model, n_layer=1, n_embd=64, vocab=65536, dtype="fp32")
    window.pipeline.use(model)
    assert page(window) == "chat"
    assert window.configurations.all.chosen.name == "base-LoRA-run-5"
    (server,) = window.servers.running()
    assert window.configurations.server is server
    qtbot.waitUntil(lambda: server.is_ready, timeout=SECONDS)
    window.show_page("config")
    assert window.config_page.run.text() == "Stop"
    process = psutil.Process(server.pid)
    window.close()
    assert not process.is_running()
    assert "base-LoRA-run-5" in window.workspace.configurations_file.read_text("utf-8")


def test_a_server_that_dies_is_told_of_on_any_page(
    window: MainWindow, qtbot: QtBot, make_checkpoint: Callable[..., Any]
) -> None:
    window.workspace.prepare()
    model = window.workspace.models / "m.pth"
    make_checkpoint(model, n_layer=1, n_embd=64, vocab=65536, dtype="fp32")
    window.configurations.use(model)
    server = window.configurations.server
    assert server is not None
    qtbot.waitUntil(lambda: server.is_ready, timeout=SECONDS)
    window.show_page("runs")
    os.kill(server.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: bool(window.shell.notifications.messages), timeout=SECONDS)
    window.shell.notifications.messages[0].notice.actions[0].run()
    assert page(window) == "config"
    assert window.config_page.banner.notice is not None

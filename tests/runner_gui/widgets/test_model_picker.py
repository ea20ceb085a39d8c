"""Which model answers: what is listed, what is loaded, two pickers beside each other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.services.model_menu import ModelMenu
from runner_gui.services.model_servers import ModelServers
from runner_gui.widgets.model_picker import ModelPicker

SECONDS = 90_000


@pytest.fixture
def work(tmp_path: Path, make_checkpoint: Callable[..., Any]) -> Workspace:
    work = Workspace(tmp_path)
    work.models.mkdir()
    make_checkpoint(work.models / "one.pth", n_layer=1, n_embd=64, vocab=65536, dtype="fp32")
    shutil.copy(work.models / "one.pth", work.models / "two.pth")
    return work


@pytest.fixture
def servers(qtbot: QtBot) -> Iterator[ModelServers]:
    servers = ModelServers()
    yield servers
    servers.close_all()


@pytest.fixture
def menu(qtbot: QtBot, work: Workspace) -> Iterator[ModelMenu]:
    menu = ModelMenu(work, Path)
    with qtbot.waitSignal(menu.changed, timeout=SECONDS):
        menu.refresh()
    yield menu
    menu.close()


def titles(picker: ModelPicker) -> list[str]:
    return [picker.combo.itemText(i) for i in range(picker.combo.count())]


def test_choosing_loads_and_what_is_loaded_stands_for_its_entry(
    dressed: QApplication, qtbot: QtBot, work: Workspace, menu: ModelMenu, servers: ModelServers
) -> None:
    picker = ModelPicker(menu, servers)
    qtbot.addWidget(picker)
    assert titles(picker)[:2] == ["one.pth", "two.pth"]
    assert picker.combo.currentIndex() == -1
    # Another page has loaded the model in its own way.
    other = servers.open(ServeOptions(work.models / "two.pth", precision="fp32", port=0, api_key=""))
    assert picker.server is other
    assert picker.combo.currentText() == "two.pth"
    assert titles(picker)[:2] == ["one.pth", "two.pth"]
    picker.combo.activated.emit(1)
    assert picker.server is other
    assert picker.state.full_text() == "Loading the model"
    set_language("zh_CN")
    qtbot.waitUntil(lambda: other.is_ready, timeout=SECONDS)
    assert picker.state.full_text() == "就绪 · CPU · RWKV-7"
    picker.combo.activated.emit(0)
    assert servers.running() == [picker.server]
    assert picker.combo.currentText() == "one.pth"


def test_two_pickers_keep_each_others_models(
    dressed: QApplication, qtbot: QtBot, work: Workspace, menu: ModelMenu, servers: ModelServers
) -> None:
    left, right = ModelPicker(menu, servers), ModelPicker(menu, servers)
    left.beside, right.beside = right, left
    for picker in (left, right):
        qtbot.addWidget(picker)
    left.combo.activated.emit(0)
    assert right.server is None
    right.combo.activated.emit(1)
    assert len(servers.running()) == 2
    assert left.server is not right.server
    left.eject.click()
    assert left.server is None
    assert servers.running() == [right.server]

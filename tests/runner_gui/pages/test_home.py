"""The Home page: what runs, what there was, the sample by one press; with the real pipeline and server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language, tr
from runner_gui.model.run_store import RunStore
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.pages.home import HomePage
from runner_gui.services.downloads import Downloads
from runner_gui.services.model_servers import ModelServers
from runner_gui.services.pipeline import Pipeline
from runner_gui.widgets.banner import BannerAction, Notice
from runner_gui.widgets.notifications import Notifications
from wsl_bootstrap.options import SetupOptions

SECONDS = 60_000


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "工作 w")
    made.prepare()
    return made


@pytest.fixture
def page(dressed: QApplication, qtbot: QtBot, space: Workspace) -> Iterator[HomePage]:
    pipeline, servers = Pipeline(space), ModelServers()
    downloads = Downloads(space, options=SetupOptions)
    made = HomePage(space, RunStore(space.runs), pipeline, downloads, servers, Notifications())
    qtbot.addWidget(made)
    made.resize(890, 670)
    made.show()
    yield made
    made.close_files()
    downloads.close()
    servers.close_all()
    pipeline.close()


def press(page: HomePage, card: str, line: int = 0, button: int = 0) -> None:
    getattr(page, card).buttons[line][button].click()


def names(page: HomePage, card: str) -> list[str]:
    return [line.name for line in getattr(page, card).lines]


def test_an_empty_page_says_what_comes_where(page: HomePage, space: Workspace, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: names(page, "models") == [space.demo_model().name], timeout=SECONDS)  # type: ignore[union-attr]
    assert names(page, "runs") == names(page, "now") == names(page, "news") == []
    assert page.runs.none.isVisible()
    assert page.sample.isEnabled()
    with qtbot.waitSignal(page.sample_requested):
        page.press_primary()
    with qtbot.waitSignal(page.chat_requested) as wanted:
        press(page, "models")
    assert wanted.args == [ServeOptions(space.demo_model())]  # type: ignore[arg-type]
    with qtbot.waitSignal(page.train_requested):
        press(page, "models", 0, 1)
    with qtbot.waitSignal(page.help_requested) as wanted:
        press(page, "manual")
    assert wanted.args == ["train"]


def test_the_newest_runs_are_opened_from_here(
    page: HomePage, space: Workspace, make_run: Callable[..., Any], qtbot: QtBot
) -> None:
    for number in range(7):
        make_run(space.runs, f"run-{number}", float(number), loss=2.5, outcome="completed")
    page.overview.look()
    qtbot.waitUntil(lambda: len(names(page, "runs")) == 5, timeout=SECONDS)
    assert names(page, "runs")[0] == "run-6"
    assert "2.500" in page.runs.lines[0].facts
    with qtbot.waitSignal(page.run_requested) as wanted:
        press(page, "runs", 1)
    assert wanted.args is not None
    assert wanted.args[0].run_id == "run-5"


def test_what_runs_is_shown_while_it_does(
    page: HomePage, space: Workspace, qtbot: QtBot, make_checkpoint: Any
) -> None:
    make_checkpoint(space.models / "tiny.pth", n_layer=1, n_embd=64, vocab=65536, dtype="fp32")
    server = page._servers.open(ServeOptions(space.models / "tiny.pth"))
    qtbot.waitUntil(lambda: names(page, "now") == ["tiny"], timeout=SECONDS)
    qtbot.waitUntil(lambda: server.is_ready and server.url in page.now.lines[0].facts, timeout=SECONDS)
    with qtbot.waitSignal(page.page_requested) as wanted:
        press(page, "now", 0, 1)
    assert wanted.args == ["config"]
    page._servers.close(server)
    qtbot.waitUntil(lambda: names(page, "now") == [], timeout=SECONDS)


def test_a_download_that_waits_is_shown(page: HomePage, qtbot: QtBot, file_server: Any) -> None:
    offer = page._downloads.keeper.catalogue.models[0]
    page._downloads._closed = True  # nothing is fetched from the network in a test
    page._downloads.add(offer)
    qtbot.waitUntil(lambda: names(page, "now") == [offer.name], timeout=SECONDS)
    page._downloads._closed = False


def test_news_come_with_their_button(page: HomePage, qtbot: QtBot) -> None:
    pressed: list[int] = []
    action = BannerAction("home.open", lambda: pressed.append(1))
    for number in range(7):
        page._notifications.tell(
            Notice("success", "download_ended", {"name": str(number)}, actions=(action,))
        )
    assert names(page, "news")[0] == "6 has come"
    assert len(names(page, "news")) == 5
    press(page, "news")
    assert pressed == [1]
    set_language("zh_CN")
    assert names(page, "news")[0] == "6 下载完成"
    assert page.heading.text() == tr("page.home") == "主页"

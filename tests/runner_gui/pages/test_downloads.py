"""The downloads page over the real queue and a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language
from runner_gui.model.catalogue import Catalogue, Offer, Repository, Source
from runner_gui.model.workspace import Workspace
from runner_gui.pages.downloads import DownloadsPage
from runner_gui.services.catalogue import CatalogueKeeper
from runner_gui.services.downloads import Downloads
from wsl_bootstrap.options import SetupOptions

SECONDS = 60_000
CONTENT = bytes(range(256)) * 4000
A, B, C = "rwkv7-a-0.1b-20260101.pth", "rwkv7-b-1.5b-20260202.pth", "rwkv7-c-14b-20250303.pth"


@pytest.fixture
def page(dressed: QApplication, qtbot: QtBot, tmp_path: Any, file_server: Any) -> Iterator[DownloadsPage]:
    space = Workspace(tmp_path)
    space.prepare()
    digest = hashlib.sha256(CONTENT).hexdigest()
    offers = (
        Offer(name=A, repository="r", size_bytes=len(CONTENT), sha256=digest),
        Offer(name=B, repository="r"),
        Offer(name=C, repository="r", size_bytes=28_000_000_000, sha256="ab" * 32),
    )
    source = Source(kind="hub", at=file_server.url, repository="r")
    catalogue = Catalogue(repositories={"r": Repository(family="G1", sources=(source,))}, models=offers)
    keeper = CatalogueKeeper(space, catalogue=catalogue)
    downloads = Downloads(space, keeper=keeper, options=SetupOptions, timeout_s=5)
    made = DownloadsPage(space, downloads)
    qtbot.addWidget(made)
    made.resize(1200, 700)
    made.show()
    yield made
    downloads.close()


def serve(file_server: Any, name: str, content: bytes = CONTENT, **how: Any) -> None:
    file_server.serve(f"/r/resolve/main/{name}", content, **how)


def visible(page: DownloadsPage) -> set[str]:
    return {name for name, shown in page.buttons.items() if shown.isVisible()}


def test_the_newest_comes_first_and_the_unchecked_is_told(page: DownloadsPage) -> None:
    assert [row.offer.name for row in page.table.selected()] == [B]
    assert "not verified by hash" in [page.table.model().index(0, c).data() for c in range(7)]
    assert page.words.text().startswith("Nobody has published")
    page.search.setText("14b")
    assert page.table.shown == 1
    set_language("zh_CN")
    assert page.heading.text() == "下载"


def test_a_download_from_click_to_file(page: DownloadsPage, qtbot: QtBot, file_server: Any) -> None:
    serve(file_server, A, paced=True)
    page.table.select({A})
    assert visible(page) == {"download"}
    page.buttons["download"].click()
    assert visible(page) == {"pause", "cancel"}
    assert page.queue.isVisible()
    file_server.released.set()
    with qtbot.waitSignal(page.train_requested, timeout=SECONDS) as wanted:
        qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
        page.banner.buttons[0].click()
    assert wanted.args is not None
    assert wanted.args[0].read_bytes() == CONTENT
    assert page.banner.notice is not None
    assert page.banner.notice.key == "downloaded"
    assert not page.queue.isVisible()
    assert visible(page) == {"show"}


def test_pause_go_on_and_cancel_in_the_queue(page: DownloadsPage, qtbot: QtBot, file_server: Any) -> None:
    serve(file_server, A, stalls_at=500_000)
    serve(file_server, B, paced=True)
    page.table.select({A, B})
    page.buttons["download"].click()
    assert set(page.queue.rows) == {A, B}
    first = page.queue.rows[next(iter(page.queue.rows))]
    kept = page.downloads.transfers[0].name
    page.queue.pause_requested.emit(kept)
    qtbot.waitUntil(lambda: page.downloads.get(kept).state == "paused", timeout=SECONDS)  # type: ignore[union-attr]
    assert first.pause.accessibleName() == "Go on"
    first.pause.click()
    qtbot.waitUntil(lambda: page.downloads.get(kept).state != "paused", timeout=SECONDS)  # type: ignore[union-attr]
    question = page.ask_cancel(A)
    if question is not None:
        question.buttons["delete"].click()
    qtbot.waitUntil(lambda: page.downloads.get(A) is None, timeout=SECONDS)
    assert not any(p.name.startswith(A) for p in page._workspace.models.iterdir())


def test_asking_before_what_has_come_is_deleted(page: DownloadsPage, qtbot: QtBot, file_server: Any) -> None:
    serve(file_server, A, stalls_at=500_000)
    page.table.select({A})
    page.buttons["download"].click()
    part = page._workspace.models / f"{A}.part"
    qtbot.waitUntil(lambda: part.is_file() and part.stat().st_size >= 400_000, timeout=SECONDS)
    page.downloads.pause(A)
    qtbot.waitUntil(lambda: page.downloads.get(A).state == "paused", timeout=SECONDS)  # type: ignore[union-attr]
    assert visible(page) == {"resume", "cancel"}
    question = page.ask_cancel(A)
    assert question is not None
    question.buttons["keep"].click()
    assert page.downloads.get(A) is not None
    question = page.ask_cancel(A)
    assert question is not None
    question.buttons["delete"].click()
    assert page.downloads.get(A) is None
    assert list(page._workspace.models.iterdir()) == []


def test_a_failure_offers_to_try_again(page: DownloadsPage, qtbot: QtBot, file_server: Any) -> None:
    serve(file_server, A, CONTENT[::-1])
    page.table.select({A})
    page.buttons["download"].click()
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert "checksum" in page.banner.body.text()
    assert "damaged" in page.queue.rows[A].words.full_text()
    serve(file_server, A)
    page.banner.buttons[0].click()
    qtbot.waitUntil(lambda: page.downloads.get(A) is None, timeout=SECONDS)


def test_another_file_of_the_name_is_not_overwritten(page: DownloadsPage, file_server: Any) -> None:
    serve(file_server, A)
    (page._workspace.models / A).write_bytes(b"mine")
    page.downloads.changed.emit()
    page.table.select({A})
    assert visible(page) == {"show"}
    page.table.opened.emit(page.table.selected()[0])
    assert page.downloads.transfers == []
    assert (page._workspace.models / A).read_bytes() == b"mine"


def test_the_preferred_server_is_remembered(page: DownloadsPage) -> None:
    page.server.setCurrentIndex(1)
    chosen = page.server.itemData(1)
    assert page.downloads.preferred == chosen
    page.downloads._preferred = ""  # as in the next window, whose page is there before it is read
    page.downloads.changed.emit()
    assert page.server.currentData() == ""
    page.downloads.load()
    assert page.server.currentData() == chosen

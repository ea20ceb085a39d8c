"""The models page, on real files that the real trainer looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.model.workspace import Workspace
from runner_gui.pages.models import ModelsPage

SECONDS = 60_000


@pytest.fixture
def page(
    dressed: QApplication, qtbot: QtBot, tmp_path: Path, make_checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModelsPage]:
    space = Workspace(tmp_path / "工作 w")
    space.prepare()
    make_checkpoint(space.models / "mine.pth")
    make_checkpoint(space.models / "mine-LoRA-20260104-142233-a-5.pth")
    (space.models / "broken.pth").write_bytes(b"x")
    made = ModelsPage(space)
    qtbot.addWidget(made)
    made.resize(1200, 700)
    made.show()
    qtbot.waitUntil(lambda: made.table.shown == 4, timeout=SECONDS)  # and the demo model
    yield made
    made.close_files()


def choose(page: ModelsPage, name: str) -> None:
    page.table.select({str(page._workspace.models / name)})


def visible(page: ModelsPage) -> set[str]:
    return {name for name, shown in page.buttons.items() if shown.isVisible()}


def test_each_kind_offers_what_it_is_good_for(page: ModelsPage) -> None:
    choose(page, "mine.pth")
    assert visible(page) == {"train", "chat", "show", "verify", "delete"}
    choose(page, "broken.pth")
    assert visible(page) == {"show", "verify", "delete"}
    assert "broken.pth" in page.why.text()
    page.search.setText("merged")
    assert page.table.shown == 1


def test_the_demo_is_not_deleted_here(page: ModelsPage) -> None:
    page.table.select({str(page._workspace.demo_model())})
    assert not page.buttons["delete"].isEnabled()
    assert page.ask_delete() is None


def test_deleting_asks_first(page: ModelsPage, qtbot: QtBot) -> None:
    choose(page, "broken.pth")
    question = page.ask_delete()
    assert question is not None
    question.buttons["delete"].click()
    qtbot.waitUntil(lambda: page.table.shown == 3, timeout=SECONDS)
    assert not (page._workspace.models / "broken.pth").exists()


def test_dropped_files_are_copied_in(
    page: ModelsPage, qtbot: QtBot, tmp_path: Path, make_checkpoint: Any
) -> None:
    make_checkpoint(tmp_path / "dropped 一.pth")
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path / name)) for name in ("dropped 一.pth", "x.txt")])
    page.dropEvent(
        QDropEvent(
            QPoint(5, 5), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
    )  # fmt: skip
    qtbot.waitUntil(lambda: page.table.shown == 5, timeout=SECONDS)
    assert (page._workspace.models / "dropped 一.pth").is_file()


def test_the_hash_is_shown(page: ModelsPage, qtbot: QtBot) -> None:
    choose(page, "broken.pth")
    page.buttons["verify"].click()
    qtbot.waitUntil(lambda: page.banner.notice is not None)
    assert (
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        in page.banner.notice.args["digest"]
    )  # type: ignore[union-attr]


def test_what_is_asked_for_goes_to_the_window(page: ModelsPage, qtbot: QtBot) -> None:
    choose(page, "mine.pth")
    with qtbot.waitSignal(page.train_requested) as wanted:
        page.buttons["train"].click()
    assert wanted.args[0].name == "mine.pth"
    page.set_busy(True)
    assert not page.buttons["train"].isEnabled()

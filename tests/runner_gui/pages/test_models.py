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

from runner_gui.model.catalogue import Catalogue, Offer, Repository
from runner_gui.model.workspace import Workspace
from runner_gui.pages.models import ModelsPage
from runner_gui.services.catalogue import CatalogueKeeper

SECONDS = 60_000
BROKEN_SHA256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
CATALOGUE = Catalogue(
    repositories={"r": Repository(family="RWKV-7 G1", sources=())},
    models=(
        Offer(name="broken.pth", repository="r", size_bytes=1, sha256=BROKEN_SHA256),
        Offer(name="mine.pth", repository="r", sha256="ab" * 32),
    ),
)


@pytest.fixture
def page(
    dressed: QApplication, qtbot: QtBot, tmp_path: Path, make_checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModelsPage]:
    space = Workspace(tmp_path / "工作 w")
    space.prepare()
    make_checkpoint(space.models / "mine.pth")
    make_checkpoint(space.models / "mine-LoRA-20260104-142233-a-5.pth")
    (space.models / "broken.pth").write_bytes(b"x")
    made = ModelsPage(space, keeper=CatalogueKeeper(space, catalogue=CATALOGUE))
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
    assert visible(page) == {"train", "chat", "export", "show", "verify", "delete"}
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


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("broken.pth", "hash_right"),
        ("mine.pth", "hash_wrong"),
        ("mine-LoRA-20260104-142233-a-5.pth", "hashed"),  # the catalogue does not know it
    ],
)
def test_the_hash_is_held_against_the_catalogue(page: ModelsPage, qtbot: QtBot, name: str, key: str) -> None:
    choose(page, name)
    page.buttons["verify"].click()
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert page.banner.notice is not None
    assert page.banner.notice.key == key
    assert len(page.banner.notice.args["digest"]) == 64


@pytest.mark.parametrize(
    ("action", "made"), [(0, "mine.safetensors"), (3, "mine-q8_0.gguf"), (1, "mine-2.pth")]
)
def test_a_model_is_written_in_another_format(page: ModelsPage, qtbot: QtBot, action: int, made: str) -> None:
    choose(page, "mine.pth")
    page.formats.actions()[action].trigger()
    assert page.progress.isVisible()
    assert not page.buttons["export"].isEnabled()
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert page.banner.notice is not None
    is_gguf = made.endswith(".gguf")
    assert page.banner.notice.key == ("exported_gguf" if is_gguf else "exported_model")
    assert (page._workspace.models / made).is_file()
    qtbot.waitUntil(lambda: page.table.shown == 5, timeout=SECONDS)
    if is_gguf:  # kept here, and no more
        choose(page, made)
        assert visible(page) == {"show", "verify", "delete"}
    qtbot.waitUntil(lambda: not page.progress.isVisible(), timeout=SECONDS)


def test_writing_is_given_up(page: ModelsPage, qtbot: QtBot) -> None:
    choose(page, "mine.pth")
    page.formats.actions()[0].trigger()
    page.cancel.click()
    qtbot.waitUntil(lambda: not page.exporter.is_busy, timeout=SECONDS)
    assert not (page._workspace.models / "mine.safetensors").exists()
    assert page.banner.notice is None


def test_what_is_asked_for_goes_to_the_window(page: ModelsPage, qtbot: QtBot) -> None:
    choose(page, "mine.pth")
    with qtbot.waitSignal(page.train_requested) as wanted:
        page.buttons["train"].click()
    assert wanted.args[0].name == "mine.pth"
    page.set_busy(True)
    assert not page.buttons["train"].isEnabled()

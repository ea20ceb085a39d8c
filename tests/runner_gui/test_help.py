"""The manual, the guide, and the keyboard map."""

from __future__ import annotations

import re

import pytest
from PySide6.QtCore import QUrl
from PySide6.QtGui import QTextDocument
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language, tr
from runner_gui.model.manual import EXTRA, chapter, manual_folder
from runner_gui.shortcuts import KEYS
from runner_gui.widgets.guide import STEPS
from runner_gui.window import PAGES, MainWindow

WRITTEN = ("en", "zh_CN")


@pytest.mark.parametrize("language", WRITTEN)
@pytest.mark.parametrize("name", [*PAGES, *EXTRA])
def test_every_page_has_a_chapter_whose_links_and_pictures_are_there(name: str, language: str) -> None:
    path = manual_folder() / language / f"{name}.md"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("http") or (path.parent / target).is_file(), target


@pytest.mark.parametrize("language", WRITTEN)
def test_the_chapter_on_keys_names_every_key(language: str) -> None:
    text = (manual_folder() / language / "keys.md").read_text(encoding="utf-8")
    for name, keys in KEYS.items():
        assert any(key.replace("Return", "Enter") in text for key in keys), name


def test_a_language_without_a_manual_reads_the_english_one() -> None:
    assert chapter("train", "xx") == manual_folder() / "en" / "train.md"


def test_f1_opens_the_chapter_of_the_page_in_the_language_in_use(window: MainWindow, qtbot: QtBot) -> None:
    window.show_page("runs")
    window.show_help()
    shown = window.shell._help
    assert shown is not None
    assert shown.isVisible()
    assert shown.reader.toPlainText().startswith("Runs")
    set_language("zh_CN")
    assert shown.reader.toPlainText().startswith("训练记录")
    shown.chapters.setCurrentRow(PAGES.index("models"))
    shown.reader._on_link(QUrl("settings.md"))
    assert shown.reader.toPlainText().startswith("设置")
    shown.back.click()
    assert shown.reader.toPlainText().startswith("模型")


def test_pictures_are_no_wider_than_the_window(window: MainWindow) -> None:
    window.show_help()
    shown = window.shell._help
    assert shown is not None
    shown.open_chapter("train")
    kind = QTextDocument.ResourceType.ImageResource
    image = shown.reader.loadResource(kind.value, QUrl("../images/train_en.png"))
    assert 0 < image.width() / image.devicePixelRatio() <= shown.reader.viewport().width()


def test_the_guide_points_at_four_things_and_comes_once(window: MainWindow, qtbot: QtBot) -> None:
    window.show_guide()
    guide = window._guide
    assert guide is not None
    targets: list[QWidget] = [target() for target in guide._targets]
    for step, target in enumerate(targets):
        assert guide.step == step
        assert guide.title.text() == tr(f"guide.{STEPS[step]}")
        assert guide.frame.geometry().contains(target.mapTo(window, target.rect().center()))
        assert window.rect().contains(guide.geometry())
        assert guide.back.isVisible() == (step > 0)
        guide.next.click()
    assert not guide.isVisible()
    assert not guide.frame.isVisible()
    assert window.settings.guide_seen


def test_the_guide_can_be_dismissed_at_any_step(window: MainWindow, qtbot: QtBot) -> None:
    window.show_guide()
    guide = window._guide
    assert guide is not None
    guide.dismiss.click()
    assert not guide.isVisible()
    assert window.settings.guide_seen


def test_ctrl_enter_presses_nothing_on_a_page_without_a_main_button(
    window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressed = []
    monkeypatch.setattr(type(window.train_page), "press_primary", lambda self: pressed.append(1))
    window.show_page("about")
    window._ask_page("press_primary")
    assert pressed == []
    window.show_page("train")
    window._ask_page("press_primary")
    assert pressed == [1]


def test_the_guide_goes_with_the_page_that_it_points_at(window: MainWindow) -> None:
    window.show_guide()
    window.show_page("runs")
    assert window._guide is not None
    assert not window._guide.isVisible()
    assert not window._guide.frame.isVisible()

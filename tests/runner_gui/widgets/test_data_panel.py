"""The data of the Train page: reported by the real trainer while the window goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QTimer, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.window import MainWindow

SECONDS = 60_000


@pytest.fixture
def window(dressed: QApplication, tmp_path: Path) -> Iterator[MainWindow]:
    made = MainWindow(Workspace(tmp_path / "工作 folder"), Settings(language="en"))
    made._loaded = True
    made.show()
    yield made
    made._closing = True
    made.close()
    made.deleteLater()


def drop(window: MainWindow, path: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(
        QPoint(5, 5), Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    window.train_page.dropEvent(event)


def test_dropped_data_is_described(window: MainWindow, tmp_path: Path, qtbot: QtBot) -> None:
    data = tmp_path / "对话 'a' & b.json"
    talk = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "Hi."}]
    records = [{"messages": talk}, {"messages": talk}, {"messages": talk[:1]}, {"wrong": 1}]
    data.write_text(json.dumps(records, indent=1), encoding="utf-8")
    panel, reporter = window.train_page.data_panel, window.train_page.reporter
    with qtbot.waitSignal(reporter.finished, timeout=SECONDS):
        drop(window, data)
        # The window answers meanwhile.
        ticks: list[int] = []
        timer = QTimer(window, interval=20)
        timer.timeout.connect(lambda: ticks.append(1))
        timer.start()
    assert len(ticks) > 10
    assert panel.isVisible()
    assert panel.values["shapes"].text() == "json · Chat messages (OpenAI): 3"
    assert panel.values["documents"].text() == "3, 1 left out"
    assert panel.values["duplicates"].text() == "1"
    assert panel.values["doubtful"].text().splitlines() == [
        "Roles out of turn: 1 (at 26)",
        "Line 34 is left out: no known fields (wrong)",
    ]
    assert "User: 你好\n\nAssistant: Hi.∎" in panel.samples.toPlainText()
    underlined = ""
    cursor = panel.samples.textCursor()
    while not cursor.atEnd():
        cursor.movePosition(cursor.MoveOperation.NextCharacter, cursor.MoveMode.KeepAnchor)
        underlined += cursor.selectedText() if cursor.charFormat().fontUnderline() else ""
        cursor.clearSelection()
    assert underlined == " Hi.∎ Hi.∎"
    # The recommended context length is one press away, and changes what is reported.
    window.train_page.form_state.set("ctx_len", 512)
    qtbot.waitUntil(lambda: "512" in panel.values["fits"].text(), timeout=SECONDS)
    qtbot.mouseClick(panel.take, Qt.MouseButton.LeftButton)
    assert window.train_page.form_state.values["ctx_len"] == 128
    qtbot.waitUntil(lambda: "128" in panel.values["fits"].text(), timeout=SECONDS)
    assert not panel.take.isVisible()
    set_language("zh_CN")
    assert panel.values["shapes"].text() == "json · 对话消息（OpenAI）：3"


def test_data_that_cannot_be_used_says_what_to_do(window: MainWindow, tmp_path: Path, qtbot: QtBot) -> None:
    data = tmp_path / "d.csv"
    data.write_text("Frage,Antwort\na,b\n", encoding="utf-8")
    page = window.train_page
    with qtbot.waitSignal(page.reporter.failed, timeout=SECONDS):
        drop(window, data)
    assert "Frage, Antwort" in page.data_panel.state.text()
    assert "“Columns”" in page.data_panel.state.text()
    with qtbot.waitSignal(page.reporter.finished, timeout=SECONDS):
        page.form_state.set("data_columns", "prompt=Frage,completion=Antwort")
    assert page.data_panel.values["documents"].text() == "1"
    assert not page.data_panel.state.isVisible()


def test_a_report_can_be_cancelled(window: MainWindow, tmp_path: Path, qtbot: QtBot) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "some words in a line, and some more"}\n' * 1_000_000, encoding="utf-8")
    page = window.train_page
    with qtbot.waitSignal(page.reporter.progressed, timeout=SECONDS):
        drop(window, data)
    job = page.reporter._job
    assert job is not None
    with qtbot.waitSignal(job.finished, timeout=SECONDS):
        qtbot.mouseClick(page.data_panel.cancel, Qt.MouseButton.LeftButton)
        assert not page.reporter.is_running
    assert page.data_panel.state.text() == "The data was not looked at."
    assert not list((tmp_path / "工作 folder" / "cache").rglob("*.idx"))

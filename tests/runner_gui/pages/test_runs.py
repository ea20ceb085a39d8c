"""The history page, on run folders as the trainer leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.model.run_store import RunStore
from runner_gui.pages.runs import RunsPage
from trainer.contract.run_folder import RunFolder, RunNotes

MakeRun = Callable[..., RunFolder]


def add_steps(folder: RunFolder, first: int, last: int, loss: float) -> None:
    with open(folder.events, "a", encoding="utf-8") as file:
        for step in range(first, last + 1):
            event = {"v": 1, "seq": step, "ts": 1.0, "t": "step", "step": step, "total": 99, "loss": loss}
            file.write(json.dumps(event) + "\n")


@pytest.fixture
def page(dressed: QApplication, qtbot: QtBot, tmp_path: Path, make_run: MakeRun) -> Iterator[RunsPage]:
    runs = tmp_path / "runs"
    for number, (name, rank, status) in enumerate(
        [("poems", 8, "completed"), ("小说", 16, "stopped"), ("poems-2", 8, "failed")]
    ):
        folder = make_run(runs, name, float(number), {"lora_r": rank}, status=status, step=5, loss=2.0)
        add_steps(folder, 1, 5, 2.0 + number)
    made = RunsPage(RunStore(runs))
    qtbot.addWidget(made)
    made.resize(1200, 760)
    made.show()
    qtbot.waitUntil(lambda: made.table.shown == 3)
    yield made
    made.close_files()


def names(page: RunsPage) -> list[str]:
    return [row.name for row in page.table.selected()]


def test_newest_first_and_the_first_is_chosen(page: RunsPage, qtbot: QtBot) -> None:
    assert names(page) == ["poems-2"]
    qtbot.waitUntil(lambda: len(page._series["poems-2"].steps) == 5)
    assert page.buttons["open"].isEnabled()
    assert not page.buttons["resume"].isEnabled()  # it has no checkpoint


def test_searching_by_words(page: RunsPage) -> None:
    page.search.setText("小说")
    assert page.table.shown == 1
    page.search.setText("POEMS")
    assert page.table.shown == 2
    page.search.setText("none of these")
    assert page.table.shown == 0


def test_several_are_drawn_over_each_other_and_their_differences_told(page: RunsPage, qtbot: QtBot) -> None:
    page.table.select({"poems", "小说"})
    assert not page.buttons["open"].isEnabled()
    qtbot.waitUntil(lambda: [len(run.series.steps) for run in page.chart._runs] == [5, 5])
    texts = [page._differences.itemAt(i).widget().text() for i in range(page._differences.count())]
    assert texts == ["LoRA R", "16  ·  8"]


def test_a_name_and_a_note_stay_with_the_run(page: RunsPage, qtbot: QtBot) -> None:
    page.table.select({"poems"})
    qtbot.keyClicks(page.words.name, "Pirates")
    qtbot.keyClick(page.words.name, Qt.Key.Key_Return)
    page.words.note.setPlainText("better than the last")
    page.table.select({"小说"})  # what was typed is the other run's, also where it was not kept yet
    page.table.select({"poems"})
    qtbot.waitUntil(lambda: page._store.runs()[-1].folder.notes().note == "better than the last")
    assert page._store.runs()[1].folder.notes() == RunNotes()
    qtbot.waitUntil(lambda: names(page) == ["Pirates"])
    page.search.setText("better last")
    qtbot.waitUntil(lambda: page.table.shown == 1)


def test_deleting_asks_first_and_frees_the_folder(page: RunsPage, qtbot: QtBot) -> None:
    page.table.select({"poems", "poems-2"})
    question = page.ask_delete()
    assert question is not None
    assert "2" in question.sentence.text()
    question.buttons["keep"].click()
    assert len(page._store.runs()) == 3
    question = page.ask_delete()
    assert question is not None
    question.buttons["delete"].click()
    qtbot.waitUntil(lambda: page.table.shown == 1)
    assert [info.folder.run_id for info in page._store.runs()] == ["小说"]


def test_a_run_that_goes_on_is_not_deleted(page: RunsPage, qtbot: QtBot) -> None:
    folder = page._store.runs()[0].folder
    with folder.lock():
        page.refresh()
        qtbot.waitUntil(lambda: page.table.selected()[0].info.status == "running")
        assert not page.buttons["delete"].isEnabled()
        assert page.ask_delete() is None


def test_what_a_run_writes_while_it_is_shown_is_read_on(page: RunsPage, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: len(page._series["poems-2"].steps) == 5)
    add_steps(page._store.runs()[0].folder, 6, 9, 1.0)
    page.refresh()
    qtbot.waitUntil(lambda: len(page._series["poems-2"].steps) == 9)


def test_exports(page: RunsPage, qtbot: QtBot, tmp_path: Path) -> None:
    table, picture = tmp_path / "a b.csv", tmp_path / "图.png"
    page.save_csv(page.table.selected()[0], table)
    qtbot.waitUntil(lambda: page.banner.notice is not None)
    assert table.read_text().count("\n") == 6
    page.save_png(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    page.save_png(tmp_path / "none" / "a.png")
    assert page.banner.notice is not None
    assert page.banner.notice.kind == "error"


def test_what_is_asked_for_goes_to_the_window(page: RunsPage, qtbot: QtBot) -> None:
    page.table.select({"小说"})
    with qtbot.waitSignal(page.clone_requested) as cloned:
        page.buttons["clone"].click()
    assert cloned.args[0]["lora_r"] == 16
    with qtbot.waitSignal(page.open_requested) as opened:
        page.table.activated.emit(page.table.selectionModel().selectedRows()[0])
    assert opened.args[0].run_id == "小说"
    page.set_busy(True)
    assert not page.buttons["clone"].isEnabled()


def test_no_run_yet_teaches(dressed: QApplication, qtbot: QtBot, tmp_path: Path) -> None:
    page = RunsPage(RunStore(tmp_path / "none"))
    qtbot.addWidget(page)
    page.show()
    assert page.empty_words.isVisible()
    assert "Train" in page.empty_words.text()
    page.close_files()

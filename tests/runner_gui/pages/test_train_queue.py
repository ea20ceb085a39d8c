from __future__ import annotations

import pytest
from PySide6.QtWidgets import QToolButton
from pytestqt.qtbot import QtBot

from runner_gui.services.pipeline import Pipeline
from runner_gui.window import MainWindow


def test_runs_are_added_looked_at_moved_and_removed(window: MainWindow, qtbot: QtBot) -> None:
    page = window.train_page
    assert not page.panel.queue.isVisible()
    for length in (64, 128):
        page.form_state.set("ctx_len", length)
        page.panel.enqueue.click()
    assert page.panel.queue.text() == "Queue: 2"
    page.panel.queue.click()
    dialog = page.queueing.dialog
    assert dialog is not None

    def press(name: str) -> None:
        """Press the first button of this name, once the list has been laid out."""

        def found() -> list[QToolButton]:
            buttons = dialog.findChildren(QToolButton)
            return [b for b in buttons if b.isVisible() and b.accessibleName().startswith(name)]

        qtbot.waitUntil(lambda: bool(found()))
        found()[0].click()

    press("Later")
    assert [entry.params["ctx_len"] for entry in page.queue.entries] == [128, 64]
    press("Remove")
    press("Remove")
    assert page.queue.entries == []
    assert dialog.none.isVisible()
    dialog.accept()
    assert not page.panel.queue.isVisible()


def test_bad_parameters_cannot_wait(window: MainWindow) -> None:
    page = window.train_page
    page.form_state.set("data", None)
    assert not page.panel.enqueue.isEnabled()


def test_the_next_run_is_prepared_while_one_goes_on(
    window: MainWindow, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = window.train_page
    page.form_state.set("ctx_len", 64)
    monkeypatch.setattr(Pipeline, "is_busy", property(lambda self: True))
    window.pipeline.busy_changed.emit(True)
    row = page.form.rows["ctx_len"]
    assert not row.editor.isEnabled()
    assert not page.panel.enqueue.isVisible()
    page.panel.prepare.click()
    assert row.editor.isEnabled()
    page.form_state.set("ctx_len", 128)
    assert page.primary.text() == "Cancel"
    page.panel.enqueue.click()
    assert not row.editor.isEnabled()
    assert page.queue.active
    assert [entry.params["ctx_len"] for entry in page.queue.entries] == [128]

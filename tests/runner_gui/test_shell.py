"""The strip, the messages and the tray around the pages."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language, tr
from runner_gui.services.system_monitor import GpuReading, Reading
from runner_gui.widgets.banner import BannerAction, Notice
from runner_gui.widgets.tray import Tray
from runner_gui.window import MainWindow
from trainer.contract.run_folder import RunFolder

GB = 10**9


def test_the_strip_shows_what_was_read_in_the_language_in_use(window: MainWindow) -> None:
    strip = window.shell.strip
    strip.show_reading(Reading(12.4, 9 * GB, 24 * GB))
    assert (strip.device.full_text(), strip.values["cpu"].text()) == ("CPU only", "12 %")
    assert strip.values["memory"].text() == "9.0 / 24.0 GB"
    assert not strip.lines["vram"].isVisible()
    strip.show_reading(Reading(100.0, 9 * GB, 24 * GB, GpuReading("RTX 4070", None, 9 * GB, 12 * GB)))
    assert strip.values["gpu"].text() == "—"
    assert strip.lines["vram"].isVisible()
    assert list(strip.lines["vram"].values) == [0.75]
    assert list(strip.lines["cpu"].values) == [0.124, 1.0]
    set_language("zh_CN")
    assert strip.names["vram"].text() == "显存"


def test_a_window_that_nobody_sees_measures_nothing(window: MainWindow, qtbot: QtBot) -> None:
    timer = window.shell.monitor._timer
    qtbot.waitUntil(timer.isActive)
    window.hide()
    assert not timer.isActive()
    window.show()
    assert timer.isActive()


@pytest.mark.parametrize(("status", "kind"), [("completed", "success"), ("failed", "error")])
def test_the_end_of_a_run_is_told_wherever_one_looks(
    window: MainWindow, status: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(Tray, "tell", lambda self, title, body: told.append((title, body)))
    window.show_page("settings")
    window.pipeline._run_folder = RunFolder(window.workspace.runs / "a-run")
    window.pipeline.run_ended.emit(status)
    toast = window.shell.toast
    assert toast.isVisible()
    assert toast.notice is not None
    assert toast.notice.kind == kind
    assert told == [(tr(f"ended_{status}.title", name="a-run"), tr(f"ended_{status}.body"))]
    assert window.shell.strip.messages.text() == "Messages: 1 new"
    assert window.rect().contains(toast.geometry())
    toast.buttons[0].click()
    assert window.pages.currentWidget() is window.train_page
    assert not toast.isVisible()


def test_who_wants_no_desktop_messages_gets_none(window: MainWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(Tray, "tell", lambda self, title, body: told.append(title))
    window.settings.notifications = False
    window.shell.tell(Notice("info", "drop"))
    assert told == []
    assert window.shell.toast.isVisible()


def test_the_list_keeps_the_last_messages_with_their_buttons(window: MainWindow, qtbot: QtBot) -> None:
    pressed: list[int] = []
    for number in range(40):
        action = BannerAction("action.show_run", lambda n=number: pressed.append(n))
        window.shell.tell(Notice("info", "exported", {"name": str(number)}, actions=(action,)))
    shell = window.shell
    assert [m.notice.args["name"] for m in shell.notifications.messages][:2] == ["39", "38"]
    assert len(shell.notifications.messages) == 30
    shell.strip.messages.click()
    assert shell.list.isVisible()
    assert shell.strip.messages.text() == "Messages"
    banner = shell.list._column.itemAt(3).widget()
    banner.buttons[0].click()  # type: ignore[union-attr]
    assert pressed == [38]
    assert not shell.list.isVisible()


def test_nothing_is_flashed_at_somebody_who_looks(
    window: MainWindow, monkeypatch: pytest.MonkeyPatch, qtbot: QtBot
) -> None:
    alerted = []
    monkeypatch.setattr(QApplication, "alert", lambda *args: alerted.append(args))
    monkeypatch.setattr(MainWindow, "isActiveWindow", lambda self: True)
    window.shell.tray.tell("a", "b")
    assert alerted == []
    monkeypatch.setattr(MainWindow, "isActiveWindow", lambda self: False)
    window.shell.tray.tell("a", "b")
    assert len(alerted) == 1

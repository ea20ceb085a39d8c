from __future__ import annotations

from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from runner_gui.widgets.key_tips import codes
from runner_gui.window import MainWindow


def press(window: MainWindow, key: Qt.Key) -> None:
    """As the system sends it, to the window and not to a widget."""
    QTest.keyClick(window.windowHandle(), key)


def test_every_text_has_a_code_of_its_own() -> None:
    assert codes(["Train", "Test", "训练", "", "Stop"]) == ["T", "A", "B", "C", "S"]
    many = codes([f"b{n}" for n in range(40)])
    assert len(set(many)) == 40
    assert {len(code) for code in many} == {2}
    assert codes([]) == []


def test_alt_shows_a_letter_on_each_button_and_the_letter_presses_it(
    window: MainWindow, qtbot: QtBot
) -> None:
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    window.show_page("about")
    tips = window.key_tips
    press(window, Qt.Key.Key_Alt)
    shown = {target for _, target in tips.tips.values()}
    assert {window.nav[name] for name in window.nav} <= shown
    assert window.about_page.copy in shown
    assert window.train_page.primary not in shown  # on a page that is not in front
    code = next(code for code, (_, target) in tips.tips.items() if target is window.nav["settings"])
    for letter in code:
        press(window, Qt.Key(ord(letter)))
    assert window.pages.currentWidget() is window.settings_page
    assert tips.tips == {}


def test_other_keys_and_the_mouse_take_the_letters_away(window: MainWindow, qtbot: QtBot) -> None:
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    tips = window.key_tips
    press(window, Qt.Key.Key_Alt)
    assert tips.tips
    press(window, Qt.Key.Key_Escape)
    assert not tips.tips
    press(window, Qt.Key.Key_Alt)
    press(window, Qt.Key.Key_Alt)
    assert not tips.tips
    press(window, Qt.Key.Key_Alt)
    QTest.mouseClick(
        window.windowHandle(), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(400, 20)
    )
    assert not tips.tips


def test_alt_as_part_of_another_key_shows_nothing(window: MainWindow, qtbot: QtBot) -> None:
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    handle = window.windowHandle()
    QTest.keyPress(handle, Qt.Key.Key_Alt)
    QTest.keyPress(handle, Qt.Key.Key_F8, Qt.KeyboardModifier.AltModifier)
    QTest.keyRelease(handle, Qt.Key.Key_F8, Qt.KeyboardModifier.AltModifier)
    QTest.keyRelease(handle, Qt.Key.Key_Alt)
    assert not window.key_tips.tips

"""Every button by the keyboard, in any language: Alt shows a letter on each, the letter presses it."""

from __future__ import annotations

from itertools import product
from string import ascii_uppercase

from PySide6.QtCore import QEvent, QObject, QPoint, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent, QWindow
from PySide6.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget
from shiboken6 import isValid

from runner_gui.widgets.controls import label


def codes(texts: list[str]) -> list[str]:
    """A code of its own for each text: its first letter where that is free, one letter if all fit in that."""
    if len(texts) > len(ascii_uppercase):
        return ["".join(pair) for pair in list(product(ascii_uppercase, repeat=2))[: len(texts)]]
    taken: dict[int, str] = {}
    for place, text in enumerate(texts):
        if text[:1].upper() in set(ascii_uppercase) - set(taken.values()):
            taken[place] = text[0].upper()
    free = iter(letter for letter in ascii_uppercase if letter not in set(taken.values()))
    return [taken[place] if place in taken else next(free) for place in range(len(texts))]


class KeyTips(QObject):
    """Watches the window that has the keyboard, whichever of the application's that is.

    It listens where the system's events come in: a filter on the application would see every event there is.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._window: QWindow | None = None
        self.tips: dict[str, tuple[QLabel, QAbstractButton]] = {}
        self._typed = ""
        self._alone = False  # Alt is down and nothing else was pressed since
        QGuiApplication.instance().focusWindowChanged.connect(self._watch)  # type: ignore[union-attr]

    def _watch(self, window: QWindow | None) -> None:
        self.hide()
        if self._window is not None and isValid(self._window):
            self._window.removeEventFilter(self)
        self._window = window
        if window is not None:
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        kind = event.type()
        if kind == QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            return self._on_press(event)
        if kind == QEvent.Type.KeyRelease and isinstance(event, QKeyEvent):
            if event.key() == Qt.Key.Key_Alt and self._alone and not event.isAutoRepeat():
                self._alone = False
                self.hide() if self.tips else self.show()
        elif kind in (QEvent.Type.MouseButtonPress, QEvent.Type.Wheel, QEvent.Type.Resize):
            self._alone = False
            self.hide()
        return False

    def show(self) -> None:
        """Put a tip on every button that could be pressed now."""
        window = QApplication.activeModalWidget() or QApplication.activeWindow()
        if window is None:
            return
        buttons = [b for b in window.findChildren(QAbstractButton) if _can_be_pressed(b, window)]
        for code, target in zip(codes([b.text() for b in buttons]), buttons, strict=True):
            tip = label("key_tip", window)
            tip.setText(code)
            tip.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            tip.adjustSize()
            corner = target.mapTo(window, QPoint(4, target.height() - tip.height() // 2 - 4))
            tip.move(corner)
            tip.show()
            tip.raise_()
            self.tips[code] = (tip, target)

    def hide(self) -> None:
        """Take the tips away."""
        for tip, _ in self.tips.values():
            tip.hide()
            tip.deleteLater()
        self.tips, self._typed = {}, ""

    def _on_press(self, event: QKeyEvent) -> bool:
        self._alone = event.key() == Qt.Key.Key_Alt
        if not self.tips or self._alone:
            return False
        self._typed += chr(event.key()) if event.key() < 128 else " "
        if self._typed in self.tips:
            target = self.tips[self._typed][1]
            self.hide()
            target.setFocus(Qt.FocusReason.ShortcutFocusReason)
            target.click()
        elif not any(code.startswith(self._typed) for code in self.tips):
            self.hide()
        return True


def _can_be_pressed(button: QAbstractButton, window: QWidget) -> bool:
    if not button.isVisible() or not button.isEnabled() or button.window() is not window:
        return False
    # What has scrolled out of sight cannot be pressed by who sees no tip for it.
    return not button.visibleRegion().isEmpty()

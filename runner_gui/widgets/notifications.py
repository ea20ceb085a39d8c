"""What happened while the person looked elsewhere: a message over the window, and the last ones in a list."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from PySide6.QtCore import QEvent, QObject, QPoint, Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.controls import empty, label, scrolled

KEPT = 30
TOAST_MS = 8000
_WIDTH, _HEIGHT, _MARGIN = 380, 420, 16


@dataclass(frozen=True)
class Message:
    """A notice and when it came."""

    notice: Notice
    ts: float = field(default_factory=time.time)


class Notifications(QObject):
    """The last messages, newest first.

    Signals:
        told(object): a Notice came. unread_changed(int): so many were not looked at.
    """

    told = Signal(object)
    unread_changed = Signal(int)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.messages: deque[Message] = deque(maxlen=KEPT)
        self.unread = 0

    def tell(self, notice: Notice) -> None:
        self.messages.appendleft(Message(notice))
        self.unread = min(self.unread + 1, KEPT)
        self.told.emit(notice)
        self.unread_changed.emit(self.unread)

    def mark_read(self) -> None:
        self.unread = 0
        self.unread_changed.emit(0)

    def clear(self) -> None:
        self.messages.clear()
        self.mark_read()


class Toast(Banner):
    """A notice in the corner of the window; goes by itself unless the mouse or the focus is on it.

    Args:
        above: how many pixels of the window's foot stay free.
    """

    def __init__(self, window: QWidget, above: int) -> None:
        super().__init__(window)
        self._window, self._above = window, above
        self._timer = QTimer(self, singleShot=True, interval=TOAST_MS)
        self._timer.timeout.connect(self._on_time)
        window.installEventFilter(self)

    def show_notice(self, notice: Notice) -> None:
        super().show_notice(_that_close(notice, self.dismiss))
        self._place()
        self.raise_()
        self._timer.start()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._place()
        return super().eventFilter(watched, event)

    def _place(self) -> None:
        height = max(self.heightForWidth(_WIDTH), self.minimumSizeHint().height())
        right, bottom = self._window.width() - _MARGIN, self._window.height() - self._above - _MARGIN
        self.setGeometry(right - _WIDTH, bottom - height, _WIDTH, height)

    def _on_time(self) -> None:
        if self.underMouse() or self.isAncestorOf(self.window().focusWidget()):
            self._timer.start()
        else:
            self.dismiss()


class MessageList(QFrame):
    """The last messages, opened above the strip; closes when something else is pressed, or by Escape."""

    def __init__(self, notifications: Notifications, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setObjectName("card")
        self._notifications = notifications
        self.title, self.none = label("title"), label("muted", wrap=True)
        inside = QWidget()
        inside.setObjectName("scroll_body")
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 8, 0)
        scroll = scrolled(inside)
        box = QVBoxLayout(self)
        box.addWidget(self.title)
        box.addWidget(self.none)
        box.addWidget(scroll, 1)
        self.setFixedSize(_WIDTH + 40, _HEIGHT)
        language_changed.connect(self.retranslate)

    def open_above(self, place: QPoint) -> None:
        """Show it with its lower right corner here, in screen coordinates."""
        self.retranslate()
        self.move(place.x() - self.width(), place.y() - self.height())
        self.show()
        self._notifications.mark_read()

    def retranslate(self) -> None:
        self.title.setText(tr("strip.messages"))
        self.none.setText(tr("messages.none"))
        messages = self._notifications.messages
        self.none.setVisible(not messages)
        empty(self._column)
        for message in messages:
            when, shown = label("caption"), Banner()
            when.setText(fmt.moment(message.ts))
            shown.show_notice(_that_close(message.notice, self.close))
            shown.close_button.hide()
            self._column.addWidget(when)
            self._column.addWidget(shown)
        self._column.addStretch(1)


def _that_close(notice: Notice, close: object) -> Notice:
    """The same notice, whose buttons also close what shows it."""

    def both(action: BannerAction) -> BannerAction:
        def run() -> None:
            close()  # type: ignore[operator]
            action.run()

        return replace(action, run=run)

    actions: Sequence[BannerAction] = tuple(both(action) for action in notice.actions)
    return replace(notice, actions=actions)

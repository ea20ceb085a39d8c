"""Messages of the desktop itself, for when the window is not in front."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QApplication, QMenu, QSystemTrayIcon, QWidget

from runner_gui.i18n import language_changed, tr


class Tray(QObject):
    """An icon in the tray where the desktop has one; without it the taskbar entry still flashes.

    Signals:
        show_requested(), quit_requested(): pressed in the tray.
    """

    show_requested = Signal()
    quit_requested = Signal()

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window = window
        self.icon: QSystemTrayIcon | None = None
        if not QSystemTrayIcon.isSystemTrayAvailable():
            return
        self.icon = QSystemTrayIcon(window.windowIcon(), self)
        menu = QMenu(window)
        self._show = menu.addAction("", self.show_requested.emit)
        self._quit = menu.addAction("", self.quit_requested.emit)
        self.icon.setContextMenu(menu)
        self.icon.activated.connect(self._on_activated)
        self.icon.messageClicked.connect(self.show_requested)
        self.icon.show()
        language_changed.connect(self.retranslate)
        self.retranslate()

    def tell(self, title: str, body: str) -> None:
        """Say it, and ask for attention in the taskbar, unless the window is in front."""
        if self._window.isActiveWindow():
            return
        QApplication.alert(self._window)
        if self.icon is not None:
            self.icon.showMessage(title, body, self._window.windowIcon())

    def hide(self) -> None:
        """Take the icon out of the tray; Windows keeps the icon of a program that just ends."""
        if self.icon is not None:
            self.icon.hide()

    def retranslate(self) -> None:
        if self.icon is not None:
            self.icon.setToolTip(tr("app.name"))
            self._show.setText(tr("tray.show"))
            self._quit.setText(tr("tray.quit"))

    def _on_activated(self, reason: QSystemTrayIcon.ActivationReason) -> None:
        if reason == QSystemTrayIcon.ActivationReason.Trigger:
            self.show_requested.emit()

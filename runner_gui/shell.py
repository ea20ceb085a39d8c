"""What surrounds the pages: the strip at the foot, the messages, the tray, and who is told when work ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QEvent, QObject
from PySide6.QtWidgets import QMainWindow

from runner_gui.i18n import language_changed, tr
from runner_gui.model.settings import Settings
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.system_monitor import SystemMonitor
from runner_gui.widgets.banner import BannerAction, Notice
from runner_gui.widgets.help_window import HelpWindow
from runner_gui.widgets.notifications import MessageList, Notifications, Toast
from runner_gui.widgets.status_strip import HEIGHT, StatusStrip
from runner_gui.widgets.tray import Tray

# How a run may end, and how that is shown.
_KINDS = {"completed": "success", "stopped": "info", "failed": "error", "killed": "error"}


class Shell(QObject):
    """Made before the pages are laid out; `strip` is the window's to place.

    Args:
        pages: the names of the window's pages.
        show_work: brings the page of what is under way to the front.
    """

    def __init__(
        self,
        window: QMainWindow,
        pipeline: Pipeline,
        settings: Settings,
        pages: Sequence[str],
        show_work: Callable[[], None],
    ) -> None:
        super().__init__(window)
        self._window, self._pipeline, self._settings = window, pipeline, settings
        self._pages, self._show_work = pages, show_work
        self.strip, self.monitor, self.tray = StatusStrip(), SystemMonitor(self), Tray(window)
        self.notifications = Notifications(self)
        self._help: HelpWindow | None = None
        self.toast, self.list = Toast(window, HEIGHT), MessageList(self.notifications, window)
        self.monitor.read.connect(self.strip.show_reading)
        self.strip.work_pressed.connect(show_work)
        self.strip.messages_pressed.connect(self.open_messages)
        self.notifications.unread_changed.connect(self.strip.show_unread)
        self.notifications.told.connect(self._on_told)
        self.tray.show_requested.connect(self.bring_forward)
        self.tray.quit_requested.connect(window.close)
        pipeline.steps_changed.connect(self._on_steps)
        pipeline.busy_changed.connect(lambda _: self._on_steps())
        pipeline.run_ended.connect(self._on_run_ended)
        language_changed.connect(self._on_steps)
        window.installEventFilter(self)

    def tell(self, notice: Notice) -> None:
        """Tell the person that something has ended or needs them, wherever they look."""
        self.notifications.tell(notice)

    def bring_forward(self) -> None:
        """Show the window in front of the others."""
        self._window.showNormal() if self._window.isMinimized() else self._window.show()
        self._window.raise_()
        self._window.activateWindow()

    def show_help(self, page: str) -> None:
        """Open the manual at the chapter of a page."""
        if self._help is None:
            self._help = HelpWindow(self._pages, self._window)
        self._help.open_chapter(page)

    def open_messages(self) -> None:
        """Open the list of messages above its button."""
        corner = self.strip.rect().topRight()
        self.list.open_above(self.strip.mapToGlobal(corner))

    def close(self) -> None:
        self.monitor.stop()
        self.tray.hide()
        self.list.close()
        if self._help is not None:
            self._help.close()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        # What nobody sees need not be measured.
        if event.type() in (QEvent.Type.Show, QEvent.Type.Hide, QEvent.Type.WindowStateChange):
            seen = self._window.isVisible() and not self._window.isMinimized()
            (self.monitor.start if seen else self.monitor.stop)()
        return super().eventFilter(watched, event)

    def _on_told(self, notice: Notice) -> None:
        self.toast.show_notice(notice)
        if self._settings.notifications:
            self.tray.tell(self.toast.title.text(), self.toast.body.text())

    def _on_steps(self) -> None:
        words = ""
        if self._pipeline.is_busy:
            working = [v for v in self._pipeline.steps if v.state in ("applying", "probing", "verifying")]
            words = tr("strip.working")
            if working:
                words = tr(f"step.{working[-1].id}.name")
                if working[-1].total:
                    words = f"{words} · {round(100 * working[-1].done / working[-1].total)} %"
        self.strip.show_work(words)

    def _on_run_ended(self, status: str) -> None:
        folder = self._pipeline.run_folder
        if folder is not None and status in _KINDS:
            actions = (BannerAction("action.show_run", self._show_work, main=True),)
            kind = _KINDS[status]
            self.tell(Notice(kind, f"ended_{status}", {"name": folder.run_id}, actions=actions))  # type: ignore[arg-type]

"""The queue as the Train page offers it: add to it, prepare a run while another one goes on, look at it."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.form import FormState
from runner_gui.pages.form_panel import FormPanel
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.run_queue import RunQueue
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.queue_dialog import QueueDialog


class TrainQueueFlow(QObject):
    """Links the form, the queue and its dialog.

    Signals:
        preparing_changed(): the form shows the next run in place of the one under way, or no longer.
    """

    preparing_changed = Signal()

    def __init__(
        self, page: QWidget, panel: FormPanel, state: FormState, queue: RunQueue, pipeline: Pipeline
    ) -> None:
        super().__init__(page)
        self._page, self._panel, self._state = page, panel, state
        self._queue, self._pipeline = queue, pipeline
        self.preparing = False
        self.dialog: QueueDialog | None = None
        panel.prepare.clicked.connect(lambda: self._prepare(not self.preparing))
        panel.enqueue.clicked.connect(self.enqueue)
        panel.queue.clicked.connect(self.show_queue)
        queue.changed.connect(self.refresh)
        pipeline.busy_changed.connect(self._on_busy)
        state.problems_changed.connect(self.refresh)
        state.value_changed.connect(self.refresh)
        language_changed.connect(self.refresh)
        self.refresh()

    def enqueue(self) -> None:
        """Put what the form shows behind the other runs; while one is under way, the next follows it."""
        params = self._state.params()
        if params is None:
            return
        self._queue.add(params)
        if self._pipeline.is_busy:
            self._prepare(False)
            self._queue.set_active(True)

    def show_queue(self) -> QueueDialog:
        """Open the list of waiting runs."""
        if self.dialog is None:
            dialog = self.dialog = QueueDialog(self._page.window())
            dialog.moved.connect(self._queue.move)
            dialog.removed.connect(self._queue.remove)
            dialog.active_chosen.connect(self._queue.set_active)
            dialog.finished.connect(self._on_closed)
        self.refresh()
        self.dialog.open()
        return self.dialog

    def refresh(self) -> None:
        """Show how many wait, and whether the form can be added."""
        busy, waiting = self._pipeline.is_busy, self._queue.waiting
        self._panel.prepare.setVisible(busy)
        self._panel.prepare.setText(tr("queue.back" if self.preparing else "queue.prepare"))
        self._panel.enqueue.setText(tr("queue.add"))
        self._panel.enqueue.setVisible(not busy or self.preparing)
        self._panel.enqueue.setEnabled(self._state.params() is not None)
        key = "queue.count_active" if self._queue.active else "queue.count"
        self._panel.queue.setText(tr(key, n=fmt.whole(waiting)))
        self._panel.queue.setVisible(bool(self._queue.entries))
        if self.dialog is not None:
            current = self._queue.current
            self.dialog.show_queue(self._queue.entries, current.id if current else "", self._queue.active)

    def _prepare(self, on: bool) -> None:
        self.preparing = on
        self.refresh()
        self.preparing_changed.emit()

    def _on_busy(self, busy: bool) -> None:
        if not busy and self.preparing:
            self._prepare(False)
        self.refresh()

    def _on_closed(self) -> None:
        if self.dialog is not None:
            self.dialog.deleteLater()
            self.dialog = None

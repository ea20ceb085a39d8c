"""Which run the Train page shows and what becomes of it: attach, resume, its end, its failures."""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtWidgets import QWidget

from runner_gui.model.run_store import RunInfo, RunStore
from runner_gui.pages.models_flow import ModelsFlow
from runner_gui.pages.train_room import TrainRoom
from runner_gui.services.pipeline import Pipeline
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from trainer.contract.errors import Problem
from trainer.contract.events import Event
from trainer.contract.run_folder import RunFolder
from wsl_bootstrap.codes import Code

# The table is filled from the last events, which may still be on their way to the view.
_OFFER_AFTER_MS = 300


class TrainRuns(QObject):
    """Listens to the pipeline's run and shows it in the room and the banner.

    Signals:
        changed(): what the button does, and what the form shows, may differ now.
        training_changed(bool): a run began or ended.
    """

    changed = Signal()
    training_changed = Signal(bool)

    def __init__(self, page: QWidget, pipeline: Pipeline, room: TrainRoom, banner: Banner) -> None:
        super().__init__(page)
        self._pipeline, self._room, self._banner = pipeline, room, banner
        self.store = RunStore(pipeline.workspace.runs)
        self.flow = ModelsFlow(page, pipeline, banner)
        self._resumable: RunInfo | None = None
        view = room.run_view
        pipeline.run_started.connect(self._on_started)
        pipeline.event_received.connect(self._on_event)
        pipeline.line_received.connect(view.log.append)
        pipeline.step_line_received.connect(lambda _step, line: view.log.append(line))
        pipeline.run_ended.connect(self._on_ended)
        pipeline.busy_changed.connect(self._on_busy)
        pipeline.warned.connect(lambda problem: banner.show_notice(Notice("warning", problem=problem)))
        pipeline.failed.connect(self._on_failed)
        pipeline.answering_changed.connect(self._on_answering)
        view.card.save_requested.connect(pipeline.save_now)
        view.card.pause_requested.connect(pipeline.pause)
        view.card.resume_requested.connect(pipeline.unpause)

    @property
    def can_resume(self) -> bool:
        """Whether the run that is shown was cut off and can go on."""
        return self._resumable is not None

    @property
    def shown(self) -> RunInfo | None:
        """The run that is shown, as its folder tells it."""
        folder = self._room.run_view.folder
        return None if folder is None else self.store.get(folder.path)

    # What is shown

    def look(self) -> None:
        """Attach to a run that goes on, offer to resume one that was cut off, or show the newest."""
        if self._pipeline.is_busy:
            return
        runs = self.store.runs()
        running = next((info for info in runs if self._is_running(info)), None)
        if running is not None:
            self._banner.show_notice(Notice("info", "attached", {"name": running.folder.run_id}))
            self._pipeline.attach(running.folder)
        elif runs:
            newest = runs[0]
            self._show(newest.folder, newest.status)
            point = newest.last_checkpoint() if newest.status == "interrupted" else None
            if point is not None:
                self._offer_resume(newest, point.meta.step)
            elif newest.status == "stopped":
                self.flow.offer_result(newest.folder, "stopped")

    def open(self, folder: RunFolder) -> None:
        """Show an earlier run, or attach to one that goes on; while this window trains, its own stays."""
        if self._pipeline.is_busy:
            return
        info = self.store.get(folder.path)
        if info is not None and self._is_running(info):
            self._pipeline.attach(folder)
        elif info is not None:
            self._banner.dismiss()
            self._show(folder, info.status)

    def begin(self) -> None:
        """Make room for a run that is about to be prepared."""
        self._banner.dismiss()
        self._room.run_view.log.clear()
        self._room.show_run()
        self._room.run_view.show_work("work.starting")

    def _is_running(self, info: RunInfo) -> bool:
        return info.status == "running" or self._pipeline.place.is_held(info.folder)

    def _show(self, folder: RunFolder, status: str) -> None:
        self._room.show_run()
        self._room.run_view.show_run(folder, status)

    # Going on with one

    def resume(self, folder: RunFolder) -> None:
        """Go on with an earlier run."""
        if not self._pipeline.is_busy:
            self._resumable = None
            self._banner.dismiss()
            self._pipeline.resume(folder)

    def resume_shown(self) -> None:
        """Go on with the run that was cut off."""
        if self._resumable is not None:
            self.resume(self._resumable.folder)

    def forget_resume(self) -> None:
        """Start afresh instead."""
        self._resumable = None
        self._banner.dismiss()
        self._room.show_welcome()
        self.changed.emit()

    def _resume_actions(self) -> tuple[BannerAction, BannerAction]:
        return (
            BannerAction("action.resume", self.resume_shown, main=True),
            BannerAction("action.start_new", self.forget_resume),
        )

    def _offer_resume(self, info: RunInfo, step: int) -> None:
        self._resumable = info
        args = {"name": info.folder.run_id, "step": fmt.whole(step)}
        self._banner.show_notice(Notice("warning", "interrupted", args, actions=self._resume_actions()))
        self.changed.emit()

    # What the pipeline tells

    def _on_started(self, path: str) -> None:
        self._show(RunFolder(path), "running")
        self.changed.emit()
        self.training_changed.emit(True)

    def _on_event(self, event: Event) -> None:
        self._room.run_view.take_event(event)
        if event.t == "hello":  # from here on the run's own parameters can be read
            self.changed.emit()

    def _on_ended(self, status: str) -> None:
        view = self._room.run_view
        view.set_status(status)
        if status in ("killed", "interrupted"):
            info = self.shown
            self._resumable = info if info is not None and info.last_checkpoint() is not None else None
        self.changed.emit()
        self.training_changed.emit(False)
        if status in ("completed", "stopped"):
            QTimer.singleShot(_OFFER_AFTER_MS, self, lambda: self.flow.offer_result(view.folder, status))

    def _on_busy(self, busy: bool) -> None:
        view = self._room.run_view
        if not busy and view.status == "working":
            view.set_status("")
            self._room.show_welcome()
        view.set_can_continue(not busy)
        self.changed.emit()

    def _on_failed(self, problem: Problem | Code, details: str) -> None:
        if self.flow.take_failure(problem):
            return
        actions = [BannerAction("action.log", self._room.show_log)]
        if self.can_resume:
            resume, start_new = self._resume_actions()
            actions = [resume, *actions, start_new]
        self._banner.show_notice(Notice("error", problem=problem, details=details, actions=actions))

    def _on_answering(self, answering: bool) -> None:
        if answering:
            self._banner.dismiss()
        else:
            log = BannerAction("action.log", self._room.show_log)
            self._banner.show_notice(Notice("warning", "silent", actions=(log,)))

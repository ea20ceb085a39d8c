"""The Train page: choose, press one button, watch, merge, talk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from PySide6.QtWidgets import QHBoxLayout, QScrollArea, QStackedWidget, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed
from runner_gui.model.form import FormState
from runner_gui.model.readiness import Action, ReadinessFacts, next_action
from runner_gui.model.run_store import RunInfo, RunStore
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import MODEL_SUFFIXES, Workspace
from runner_gui.pages.form_panel import FormPanel
from runner_gui.pages.models_flow import ModelsFlow
from runner_gui.pages.run_view import RunView
from runner_gui.services.data_report import DataReporter
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.place import originals
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.data_panel import DataPanel
from runner_gui.widgets.dialogs import Question, stop_dialog
from runner_gui.widgets.stepper import StepItem, Stepper
from runner_gui.widgets.welcome import Welcome
from trainer.contract.errors import Problem
from trainer.contract.events import Event
from trainer.contract.params import PARAMS
from trainer.contract.run_folder import RunFolder
from wsl_bootstrap.codes import Code

LOG = logging.getLogger(__name__)
WORK_KEYS = {
    "convert": "work.convert",
    "environment": "work.environment",
    "wsl": "work.wsl",
    "merge": "work.merge",
}


class TrainPage(QWidget):
    """Shows the chain, the form and the run, and drives the pipeline.

    Signals:
        form_changed(): a parameter was changed, to be remembered.
        training_changed(bool): a run began or ended.
    """

    form_changed = Signal()
    training_changed = Signal(bool)

    def __init__(
        self, workspace: Workspace, settings: Settings, pipeline: Pipeline, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.setAcceptDrops(True)
        self.workspace, self.settings, self.pipeline = workspace, settings, pipeline
        self.store = RunStore(workspace.runs)
        self._demo = workspace.demo_params()
        self.form_state = FormState(self._demo, self)
        self._fill_form(settings.last_params)
        self._resumable: RunInfo | None = None
        self._action = Action("train")
        self._dialog: Question | None = None
        self.stepper, self.banner = Stepper(), Banner()
        self.panel = FormPanel(self.form_state, self._suggestions, advanced=settings.advanced_form)
        self.form, self.primary = self.panel.form, self.panel.primary
        self.run_view, self.welcome = RunView(), Welcome()
        self.data_panel, self.reporter = DataPanel(), DataReporter(workspace.cache / "data", self)
        self.flow = ModelsFlow(self, pipeline, self.banner)
        self._lay_out()
        self._connect()
        self._show_steps()
        self._show_action()

    def _lay_out(self) -> None:
        self._right = QStackedWidget()
        self._right.addWidget(self.welcome)
        self._right.addWidget(self.data_panel)
        # A banner on a small window leaves less room than the cards need: then they scroll.
        self._run_room = QScrollArea()
        self._run_room.setWidgetResizable(True)
        self._run_room.setFrameShape(QScrollArea.Shape.NoFrame)
        self._run_room.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.run_view.setObjectName("scroll_body")
        self._run_room.setWidget(self.run_view)
        self._right.addWidget(self._run_room)
        columns = QHBoxLayout()
        columns.setSpacing(12)
        columns.addWidget(self.panel)
        columns.addWidget(self._right, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 16)
        column.setSpacing(12)
        column.addWidget(self.stepper)
        column.addWidget(self.banner)
        column.addLayout(columns, 1)

    def _connect(self) -> None:
        self.primary.clicked.connect(self.press_primary)
        self.panel.level_chosen.connect(self._on_level)
        self.form_state.value_changed.connect(self._on_form)
        self.form_state.problems_changed.connect(self._show_action)
        pipeline, view = self.pipeline, self.run_view
        pipeline.steps_changed.connect(self._show_steps)
        pipeline.busy_changed.connect(self._on_busy)
        pipeline.run_started.connect(self._on_run_started)
        pipeline.event_received.connect(self._on_event)
        pipeline.line_received.connect(view.log.append)
        pipeline.step_line_received.connect(lambda _step, line: view.log.append(line))
        pipeline.run_ended.connect(self._on_run_ended)
        pipeline.warned.connect(lambda problem: self.banner.show_notice(Notice("warning", problem=problem)))
        pipeline.failed.connect(self._on_failed)
        pipeline.answering_changed.connect(self._on_answering)
        view.card.save_requested.connect(pipeline.save_now)
        view.card.pause_requested.connect(pipeline.pause)
        view.card.resume_requested.connect(pipeline.unpause)
        view.checkpoints.try_requested.connect(lambda path: self.flow.try_checkpoint(self._folder(), path))
        view.checkpoints.merge_requested.connect(lambda path: self.flow.ask_merge(self._folder(), path))
        view.checkpoints.continue_requested.connect(self._continue_from)
        view.checkpoints.show_requested.connect(lambda path: self.flow.show_in_folder(Path(path)))
        reporter, data = self.reporter, self.data_panel
        reporter.started.connect(data.show_work)
        reporter.progressed.connect(data.show_progress)
        reporter.finished.connect(data.show_report)
        reporter.failed.connect(data.show_problem)
        reporter.cancelled.connect(data.show_cancelled)
        data.cancel_requested.connect(reporter.cancel)
        data.ctx_len_chosen.connect(lambda n: self.form_state.set("ctx_len", n))
        language_changed.connect(self._show_steps)

    # After the window is visible

    def load(self) -> None:
        """What may wait until the window is on the screen: the plot, the runs, the probes."""
        self.setFocus()
        self.run_view.chart.load()
        self.pipeline.refresh()
        self.look_for_runs()

    def look_for_runs(self) -> None:
        """Attach to a run that goes on, offer to resume one that was cut off, or show the newest."""
        if self.pipeline.is_busy:
            return
        runs = self.store.runs()
        running = next((info for info in runs if self._is_running(info)), None)
        if running is not None:
            self.banner.show_notice(Notice("info", "attached", {"name": running.folder.run_id}))
            self.pipeline.attach(running.folder)
        elif runs:
            newest = runs[0]
            self._show_run(newest.folder, newest.status)
            point = newest.last_checkpoint() if newest.status == "interrupted" else None
            if point is not None:
                self._offer_resume(newest, point.meta.step)
            elif newest.status == "stopped":
                self.flow.offer_result(newest.folder, "stopped")

    def open_run(self, folder: RunFolder) -> None:
        """Show an earlier run, or attach to one that goes on; while this window trains, its own stays."""
        if self.pipeline.is_busy:
            return
        info = self.store.get(folder.path)
        if info is not None and self._is_running(info):
            self.pipeline.attach(folder)
        elif info is not None:
            self.banner.dismiss()
            self._show_run(folder, info.status)

    def _is_running(self, info: RunInfo) -> bool:
        return info.status == "running" or self.pipeline.place.is_held(info.folder)

    def resume_run(self, folder: RunFolder) -> None:
        """Go on with an earlier run."""
        if not self.pipeline.is_busy:
            self._resumable = None
            self.banner.dismiss()
            self.pipeline.resume(folder)

    def take_params(self, params: Mapping[str, Any]) -> None:
        """Put the parameters of an earlier run into the form; what the form does not know is left out."""
        if self.pipeline.is_busy:
            return
        self._forget_resume()
        self._fill_form(originals(self.pipeline.place, params))

    def _fill_form(self, params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            if name in self.form_state.values:
                self.form_state.set(name, tuple(value) if isinstance(value, list) else value)

    def _offer_resume(self, info: RunInfo, step: int) -> None:
        self._resumable = info
        actions = (
            BannerAction("action.resume", self.press_primary, main=True),
            BannerAction("action.start_new", self._forget_resume),
        )
        args = {"name": info.folder.run_id, "step": fmt.whole(step)}
        self.banner.show_notice(Notice("warning", "interrupted", args, actions=actions))
        self._show_action()

    def _resumable_run(self) -> RunInfo | None:
        """The run that is shown, if there is a checkpoint to go on from."""
        folder = self.run_view.folder
        info = self.store.get(folder.path) if folder is not None else None
        return info if info is not None and info.last_checkpoint() is not None else None

    def _forget_resume(self) -> None:
        self._resumable = None
        self.banner.dismiss()
        self._right.setCurrentWidget(self.welcome)
        self._show_action()

    # The primary button

    def facts(self) -> ReadinessFacts:
        """What the button's label depends on."""
        values = self.form_state.values
        errors = [p for p in self.form_state.errors() if p.param not in ("base_model", "data")]
        missing, obstacle = self.pipeline.set_up_facts()
        return ReadinessFacts(
            model_chosen=bool(values["base_model"]),
            data_chosen=bool(values["data"]),
            parameter_errors=len(errors),
            set_up_missing=missing,
            set_up_obstacle=obstacle,
            busy=self.pipeline.is_busy,
            training=self.pipeline.is_training,
            stopping=self.pipeline.is_stopping,
            resumable=self._resumable is not None,
        )

    def press_primary(self) -> None:
        """Do the next thing."""
        action = self._action.id
        if not self._action.enabled:
            return
        if action == "choose_model":
            self._choose("base_model")
        elif action == "choose_data":
            self._choose("data")
        elif action == "stop":
            self.ask_stop()
        elif action == "resume" and self._resumable is not None:
            info, self._resumable = self._resumable, None
            self.banner.dismiss()
            self.pipeline.resume(info.folder)
        else:
            self._start()

    def _start(self) -> None:
        params = self.form_state.params()
        if params is None:
            return
        self.settings.note_data(params.data)
        self.settings.note_model(params.base_model)
        self.form_changed.emit()
        self.banner.dismiss()
        self.reporter.cancel()
        self.run_view.log.clear()
        self._right.setCurrentWidget(self._run_room)
        self.run_view.show_work("work.starting")
        self.pipeline.start(params)

    def ask_stop(self) -> Question | None:
        """Ask how to stop a run; what is not a run yet is simply called off."""
        if not self.pipeline.is_training:
            if self.pipeline.is_busy:
                self.pipeline.cancel()
            return None
        last = self.run_view.series.last
        dialog = stop_dialog(self.window(), last["step"] if last is not None else None)
        dialog.answered.connect(self._on_stop_answer)
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        self._dialog = dialog
        return dialog

    def _on_stop_answer(self, answer: str) -> None:
        if answer != "keep":
            self.pipeline.stop(save=answer == "save")
            self._show_action()

    def _choose(self, name: str) -> None:
        self.form.reveal(name)
        self.form.rows[name].editor.browse(folder=False)  # type: ignore[attr-defined]

    def _show_action(self) -> None:
        self._action = action = next_action(self.facts())
        key = action.id
        if key == "stop" and not self.pipeline.is_training:
            key = "cancel"
        self.panel.show_action(key, action)
        demo, values = self._demo, self.form_state.values
        self.welcome.set_demo(all(n in demo and values[n] == demo[n] for n in ("base_model", "data")))

    # The run

    def _folder(self) -> RunFolder:
        assert self.run_view.folder is not None
        return self.run_view.folder

    def _show_run(self, folder: RunFolder, status: str) -> None:
        self._right.setCurrentWidget(self._run_room)
        self.run_view.show_run(folder, status)

    def _on_run_started(self, path: str) -> None:
        self._show_run(RunFolder(path), "running")
        self._lock()
        self._show_action()
        self.training_changed.emit(True)

    def _on_event(self, event: Event) -> None:
        self.run_view.take_event(event)
        if event.t == "hello":
            self._lock()

    def _on_run_ended(self, status: str) -> None:
        self.run_view.set_status(status)
        if status in ("killed", "interrupted"):
            self._resumable = self._resumable_run()
        self._lock()
        self._show_action()
        self.training_changed.emit(False)
        if status in ("completed", "stopped"):
            # The table is filled from the last events, which may still be on their way to the view.
            QTimer.singleShot(300, self, lambda: self.flow.offer_result(self.run_view.folder, status))

    def _on_busy(self, busy: bool) -> None:
        if not busy and self.run_view.status == "working":
            self.run_view.set_status("")
            self._right.setCurrentWidget(self.welcome)
        self.run_view.set_can_continue(not busy)
        self._lock()
        self._show_action()

    def _on_failed(self, problem: Problem | Code, details: str) -> None:
        if self.flow.take_failure(problem):
            return
        actions = [BannerAction("action.log", self.show_log)]
        if self._resumable is not None:
            actions.insert(0, BannerAction("action.resume", self.press_primary, main=True))
            actions.append(BannerAction("action.start_new", self._forget_resume))
        self.banner.show_notice(Notice("error", problem=problem, details=details, actions=actions))

    def _on_answering(self, answering: bool) -> None:
        if answering:
            self.banner.dismiss()
        else:
            self.banner.show_notice(
                Notice("warning", "silent", actions=(BannerAction("action.log", self.show_log),))
            )

    def _lock(self) -> None:
        """While something is under way the form shows what it was started with."""
        busy = self.pipeline.is_busy
        record = None
        if self.pipeline.is_training and self.pipeline.run_folder is not None:
            info = self.store.get(self.pipeline.run_folder.path)
            record = None if info is None else info.record.params
        self.panel.freeze((record or dict(self.form_state.values)) if busy else None)

    def _continue_from(self, path: str) -> None:
        info = self.store.get(self._folder().path)
        if info is not None:
            self.form_state.set("base_model", info.record.params["base_model"])
            self.form_state.set("lora_load", str(Path(path, "adapter.pth")))
            self.form.reveal("lora_load")
            self.banner.show_notice(Notice("info", "continue", {"step": fmt.whole(int(Path(path).name))}))

    def show_log(self) -> None:
        """Bring the log to the front."""
        self._right.setCurrentWidget(self._run_room)
        self.run_view.set_tab("log")
        self.run_view.log.text.setFocus()

    # The chain

    def _show_steps(self) -> None:
        items = []
        for view in self.pipeline.steps:
            detail = view.detail
            if view.state == "applying" and view.total:
                detail = f"{round(100 * view.done / view.total)} %"
            elif view.id in ("train", "use"):
                detail = ""
            items.append(StepItem(view.id, f"step.{view.id}.name", view.state, detail))
            if view.state in ("applying", "probing", "verifying") and view.id in WORK_KEYS:
                self.run_view.card.set_work(WORK_KEYS[view.id])
        self.stepper.show_steps(items)
        self._show_action()

    # The form

    def _suggestions(self, name: str) -> list[str]:
        if name == "base_model":
            found = [str(path) for path in self.workspace.base_models()] + self.settings.recent_models
        elif name == "data":
            demo = self.workspace.demo_data()
            found = ([str(demo)] if demo else []) + self.settings.recent_data
        else:
            found = []
        return list(dict.fromkeys(found))

    def _on_level(self, advanced: bool) -> None:
        self.settings.advanced_form = advanced
        self.form_changed.emit()

    def _on_form(self, name: str) -> None:
        self._show_action()
        self.form_changed.emit()
        self._look_at_data(name)

    def _look_at_data(self, changed: str) -> None:
        """Report on data that is chosen, and again when what decides how it is read is changed."""
        asked = changed == "data" or self._right.currentWidget() is self.data_panel
        if not asked or PARAMS[changed].group not in ("data", "length") or self.pipeline.is_busy:
            return
        if self.form_state.values["data"]:
            self._right.setCurrentWidget(self.data_panel)
            self.reporter.ask(self.form_state.values)

    # Dropping files

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls() and not self.pipeline.is_busy:
            event.acceptProposedAction()
            self.banner.show_notice(Notice("info", "drop"))

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.banner.dismiss()

    def dropEvent(self, event: QDropEvent) -> None:
        self.banner.dismiss()
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        for path in paths[:2]:
            self.form_state.set("base_model" if path.suffix in MODEL_SUFFIXES else "data", str(path))
        if paths:
            event.acceptProposedAction()

"""The Train page: choose, press one button, watch, merge, talk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed
from runner_gui.model.form import FormState
from runner_gui.model.readiness import Action, ReadinessFacts, next_action
from runner_gui.model.run_store import RunInfo
from runner_gui.model.settings import Settings
from runner_gui.model.train_presets import preset_values
from runner_gui.model.workspace import MODEL_SUFFIXES, Workspace
from runner_gui.pages.form_panel import FormPanel
from runner_gui.pages.train_estimate import TrainEstimate
from runner_gui.pages.train_params import TrainParamsFlow
from runner_gui.pages.train_queue import TrainQueueFlow
from runner_gui.pages.train_room import TrainRoom
from runner_gui.pages.train_runs import TrainRuns
from runner_gui.services.data_report import DataReporter
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.place import originals
from runner_gui.services.run_queue import RunQueue
from runner_gui.services.step_views import SET_UP_NODES
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, Notice
from runner_gui.widgets.dialogs import Question, stop_dialog
from runner_gui.widgets.stepper import StepItem, Stepper
from trainer.contract.params import PARAMS

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
        restart_requested(): the button says that the computer has to be restarted, and was pressed.
    """

    form_changed = Signal()
    restart_requested = Signal()

    def __init__(
        self, workspace: Workspace, settings: Settings, pipeline: Pipeline, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.setAcceptDrops(True)
        self.workspace, self.settings, self.pipeline = workspace, settings, pipeline
        self._demo = workspace.demo_params()
        self.form_state = FormState(preset_values(settings.preset, self._demo), self)
        self._fill_form(settings.last_params)
        self._action = Action("train")
        self.stepper, self.banner = Stepper(links=SET_UP_NODES), Banner()
        self.panel = FormPanel(self.form_state, self._suggestions, advanced=settings.advanced_form)
        self.form, self.primary = self.panel.form, self.panel.primary
        self.room = TrainRoom()
        self.welcome, self.data_panel, self.run_view = (
            self.room.welcome,
            self.room.data_panel,
            self.room.run_view,
        )
        self.reporter = DataReporter(workspace.cache / "data", self)
        self.runs = TrainRuns(self, pipeline, self.room, self.banner)
        self.flow = self.runs.flow
        self.queue = RunQueue(pipeline, workspace.queue_file, self)
        self.queueing = TrainQueueFlow(self, self.panel, self.form_state, self.queue, pipeline)
        self.estimate = TrainEstimate(self, self.panel, self.form_state, self.reporter, pipeline)
        self.params = TrainParamsFlow(
            self, self.panel.presets, self.form_state, settings, pipeline, self.banner
        )
        self._lay_out()
        self._connect()
        self._show_steps()

    def _lay_out(self) -> None:
        columns = QHBoxLayout()
        columns.setSpacing(12)
        columns.addWidget(self.panel)
        columns.addWidget(self.room, 1)
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
        self.pipeline.steps_changed.connect(self._show_steps)
        self.runs.changed.connect(self._on_runs_changed)
        self.queueing.preparing_changed.connect(self._on_runs_changed)
        self.queue.starting.connect(self._make_room)
        table = self.run_view.checkpoints
        table.try_requested.connect(lambda path: self._with_run(self.flow.try_checkpoint, path))
        table.merge_requested.connect(lambda path: self._with_run(self.flow.ask_merge, path))
        table.continue_requested.connect(self._continue_from)
        table.show_requested.connect(lambda path: self.flow.show_in_folder(Path(path)))
        reporter, data = self.reporter, self.data_panel
        reporter.started.connect(data.show_work)
        reporter.progressed.connect(data.show_progress)
        reporter.finished.connect(data.show_report)
        reporter.failed.connect(data.show_problem)
        reporter.cancelled.connect(data.show_cancelled)
        data.cancel_requested.connect(reporter.cancel)
        data.ctx_len_chosen.connect(lambda n: self.form_state.set("ctx_len", n))
        language_changed.connect(self._show_steps)

    def load(self) -> None:
        """What may wait until the window is on the screen: the plot, the runs, the probes."""
        self.setFocus()
        self.run_view.chart.load()
        self.estimate.refresh()
        self.pipeline.looked.connect(self._go_on, Qt.ConnectionType.SingleShotConnection)
        self.pipeline.refresh()
        self.runs.look()
        if self.runs.can_resume:  # the person decides first
            self.queue.set_active(False)
        self.queue.load()

    def _go_on(self) -> None:
        """Take up what a restart of the computer came between, once everything was looked at."""
        todo = self.pipeline.interrupted_by_restart
        if not todo or self.pipeline.is_busy:
            return
        if todo == "train":
            self._start()
        else:
            self.pipeline.set_up()
        self.banner.show_notice(Notice("info", "after_restart"))

    def save(self) -> None:
        """Keep the parameters in a file."""
        self.params.ask_save()

    def show_log(self) -> None:
        """Bring the log to the front."""
        self.room.show_log()

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
            restart_needed=self.pipeline.needs_restart,
            busy=self.pipeline.is_busy,
            training=self.pipeline.is_training,
            stopping=self.pipeline.is_stopping,
            resumable=self.runs.can_resume,
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
        elif action == "restart":
            self.restart_requested.emit()
        elif action == "stop":
            self.ask_stop()
        elif action == "resume":
            self.runs.resume_shown()
        else:
            self._start()

    def _start(self) -> None:
        params = self.form_state.params()
        if params is None:
            return
        self.settings.note_data(params.data)
        self.settings.note_model(params.base_model)
        self.form_changed.emit()
        self._make_room()
        self.pipeline.start(params)

    def _make_room(self) -> None:
        self.reporter.cancel()
        self.runs.begin()

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

    def _show_steps(self) -> None:
        items = []
        for view in self.pipeline.steps:
            detail = view.detail
            if view.state == "applying" and view.total:
                detail = f"{round(100 * view.done / view.total)} %"
            elif view.id in ("train", "merge", "use"):
                detail = ""
            items.append(StepItem(view.id, f"step.{view.id}.name", view.state, detail))
            if view.state in ("applying", "probing", "verifying") and view.id in WORK_KEYS:
                self.run_view.card.set_work(WORK_KEYS[view.id])
        self.stepper.show_steps(items)
        self._show_action()

    # The form

    def take_params(self, params: Mapping[str, Any]) -> None:
        """Put the parameters of an earlier run into the form; what the form does not know is left out."""
        if not self.pipeline.is_busy:
            self.runs.forget_resume()
            self._fill_form(originals(self.pipeline.place, params))

    def _fill_form(self, params: Mapping[str, Any]) -> None:
        for name, value in params.items():
            if name in self.form_state.values:
                self.form_state.set(name, tuple(value) if isinstance(value, list) else value)

    def _with_run(self, action: Any, path: str) -> None:
        if self.run_view.folder is not None:
            action(self.run_view.folder, path)

    def _continue_from(self, path: str) -> None:
        info = self.runs.shown
        if info is not None:
            self.form_state.set("base_model", self._originals(info)["base_model"])
            self.form_state.set("lora_load", str(Path(path, "adapter.pth")))
            self.form.reveal("lora_load")
            self.banner.show_notice(Notice("info", "continue", {"step": fmt.whole(int(Path(path).name))}))

    def _on_runs_changed(self) -> None:
        """While something is under way the form shows what it was started with."""
        values = None
        if self.pipeline.is_busy:
            values = dict(self.form_state.values)
            folder = self.pipeline.run_folder if self.pipeline.is_training else None
            if folder is not None and (info := self.runs.store.get(folder.path)) is not None:
                values = self._originals(info)
        if self.queueing.preparing:
            self.panel.freeze(None, "form.next")
        else:
            self.panel.freeze(values, "form.locked" if values is not None else "")
        self._show_action()

    def _originals(self, info: RunInfo) -> dict[str, Any]:
        """A run's parameters with the files of this computer."""
        return originals(self.pipeline.place, info.record.params)

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
        asked = changed == "data" or self.room.shows_data
        if not asked or PARAMS[changed].group not in ("data", "length") or self.pipeline.is_busy:
            return
        if self.form_state.values["data"]:
            self.room.show_data()
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

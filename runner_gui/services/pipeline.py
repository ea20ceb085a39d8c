"""The whole chain behind one button: convert, set up what is missing, train, merge, use.

The engine of the set-up walks all of it in one worker thread; everything that has a signal lives in the
thread of the event loop.
"""

from __future__ import annotations

import logging
import queue
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.model.problems import AnyProblem, as_problem
from runner_gui.model.run_store import RunStore
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.services import commands
from runner_gui.services.chain_steps import (
    ConvertRequest,
    ConvertStep,
    MergeRequest,
    MergeStep,
    TrainRequest,
    TrainStep,
    Warned,
)
from runner_gui.services.commands import Command
from runner_gui.services.engine_worker import EngineWorker
from runner_gui.services.jobs import WorkerJobs
from runner_gui.services.outcome import LAST_LINES, JobOutcome
from runner_gui.services.place import files_of, originals, place_for
from runner_gui.services.run_session import RunSession, remove_unborn
from runner_gui.services.setup_choices import SetupChoices, reopen_command
from runner_gui.services.setup_follower import FIRST_STEP, LAST_STEP, SetupFollower
from runner_gui.services.step_views import (
    WAITS_FOR_PERSON,
    StepView,
    needs_restart,
    nodes,
    set_up_facts,
    view_of,
)
from runner_gui.services.stop_ladder import StopTimes
from trainer.contract.errors import AppError, Problem
from trainer.contract.params import TrainParams
from trainer.contract.run_folder import Checkpoint, RunFolder, new_run_folder, run_id_for
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.engine import Engine
from wsl_bootstrap.environment import SetupOptions, current_environment
from wsl_bootstrap.hosts import this_host
from wsl_bootstrap.journal import Journal
from wsl_bootstrap.options import options_file
from wsl_bootstrap.status import Status, StepEvent, Transition
from wsl_bootstrap.step import OutputLine, Progress
from wsl_bootstrap.steps import setup_steps
from wsl_bootstrap.transitions import State

LOG = logging.getLogger(__name__)
_POLL_S = 0.2
_NUMBERS_MS = 200


class Pipeline(QObject):
    """What the primary button drives. Made and used in the thread of the event loop.

    Signals:
        steps_changed: `steps` differs.
        busy_changed: whether something is under way.
        run_started: the folder of the run that is shown from now on.
        event_received, line_received: what its trainer tells, and what stands in its log.
        run_ended: completed, stopped, failed, killed or interrupted.
        stop_rung_reached, answering_changed: see `RunSession`.
        step_line_received: id of a step and a line that its command printed.
        warned: a problem that did not stop the work.
        failed: a problem (the trainer's or the set-up's) and its details.
        consent_needed: the plans that cost something; answered by `answer_consent`.
        restart_needed: the work goes on after a restart of the computer; the problem that says so.
        looked: every step was looked at, after `refresh`.
        merged: the file that was made. use_ready: the model to chat with.
    """

    steps_changed = Signal()
    busy_changed = Signal(bool)
    run_started = Signal(str)
    event_received = Signal(object)
    line_received = Signal(str)
    run_ended = Signal(str)
    stop_rung_reached = Signal(str)
    answering_changed = Signal(bool)
    step_line_received = Signal(str, str)
    warned = Signal(object)
    failed = Signal(object, str)
    consent_needed = Signal(object)
    restart_needed = Signal(object)
    looked = Signal()
    merged = Signal(str)
    use_ready = Signal(str)

    _training_wanted = Signal(object, object, object)

    def __init__(
        self,
        workspace: Workspace,
        settings: Settings | None = None,
        parent: QObject | None = None,
        *,
        stop_times: StopTimes | None = None,
    ) -> None:
        super().__init__(parent)
        self.workspace = workspace
        self._stop_times = stop_times
        self._settings = settings if settings is not None else Settings()
        self._jobs = WorkerJobs(self)
        options = SetupOptions.load(options_file())
        host = this_host(options.distribution)
        environment = current_environment(host)
        self.place = place_for(host, environment, self._settings.interpreter, workspace.cache)
        self._convert = ConvertStep(self._jobs, workspace.cache / "data")
        self._train = TrainStep(self, self.place, workspace.cache, self._convert)
        self._merge = MergeStep(self._jobs, self.place)
        self._journal = Journal(workspace.journal_file)
        reopen = reopen_command(workspace)
        self._engine: Engine[SetupOptions] = Engine(
            (self._convert, *setup_steps(environment, options, reopen), self._train, self._merge),
            host,
            options,
            self._journal,
        )
        self._views = {status.step_id: view_of(status) for status in self._engine.statuses()}
        self._views["use"] = StepView("use")
        self._tails: dict[str, deque[str]] = {}
        self._session: RunSession | None = None
        self._session_outcomes: queue.SimpleQueue[JobOutcome | None] | None = None
        self._numbers_timer = QTimer(self, singleShot=True, interval=_NUMBERS_MS)
        self._numbers_timer.timeout.connect(self.steps_changed)
        self._worker = EngineWorker(self._engine, workspace.root, self)
        self.setup = SetupFollower(self._engine, self._worker, environment.folder, self)
        self.choices = SetupChoices(self._engine, environment, reopen, self)
        self._was_busy = False
        self._closed = False
        self._run_folder: RunFolder | None = None
        self._worker.said.connect(self._on_engine)
        self._worker.consent_needed.connect(self.consent_needed)
        self._worker.looked.connect(lambda _: self.looked.emit())
        self._training_wanted.connect(self._begin_training)

    # What is asked of it

    @property
    def steps(self) -> list[StepView]:
        """The nodes of the stepper."""
        return nodes(self._views)

    @property
    def is_busy(self) -> bool:
        return self._worker.is_working or self._session is not None

    @property
    def is_training(self) -> bool:
        """Whether there is a run that can be saved, paused and stopped."""
        return self._session is not None

    @property
    def is_stopping(self) -> bool:
        return self._session is not None and self._session.is_stopping

    @property
    def run_folder(self) -> RunFolder | None:
        """The run that was started, resumed or attached to last."""
        return self._run_folder

    def set_up_facts(self) -> tuple[bool, str | None]:
        """Whether set-up is still to be done, and the catalogue key of what only the person can change."""
        return set_up_facts(self.steps)

    @property
    def needs_restart(self) -> bool:
        """Whether the computer has to be restarted before the work can go on."""
        return needs_restart(self.steps)

    @property
    def interrupted_by_restart(self) -> Literal["", "train", "set_up"]:
        """What to go on with: it was asked for and agreed to before a restart, and can be done now."""
        missing, obstacle = self.set_up_facts()
        possible = missing and obstacle is None and bool(self._journal.agreed())
        return self._settings.asked_for if possible else ""

    def merge_target(self, checkpoint: Checkpoint, run: RunFolder) -> Path:
        """Where a merge would go: a name that is not taken."""
        return self.workspace.merged_model_path(self._base_of(run), run.run_id, checkpoint.meta.step)

    # What makes it work

    def refresh(self) -> None:
        """Look at everything anew, in the background."""
        if not self.is_busy and not self._closed:
            self._worker.look()

    def start(self, params: TrainParams, name: str = "") -> None:
        """Walk the whole chain up to a new run of these parameters."""
        self._settings.asked_for = "train"
        self._walk(params, lambda: self._new_request(params, name))

    def preview(self, params: TrainParams) -> Command:
        """Return the command that `start` would end in now. Nothing is made or copied for it."""
        folder = self.workspace.runs / run_id_for(Path(params.data).stem)
        name = self.place.bring((), lambda _: None, CancelToken())
        return self.place.trainer(commands.train_args(params, folder, name), folder)

    def write_report(self, target: Path, language: str) -> None:
        """Write one file to send when asking for help, about set-up and the last run. For a worker thread.

        Raises:
            OSError: it could not be written.
        """
        run = self._run_folder
        logs = [] if run is None else [run.run_json, run.events, run.log]
        existing = [path for path in (self.workspace.journal_file, *logs) if path.is_file()]
        self.setup.write_bundle(target, self._engine.options, existing, language)

    def resume(self, run: RunFolder) -> None:
        """Go on with a run from its last checkpoint, with the parameters that it was started with."""
        record = RunStore(self.workspace.runs).get(run.path)
        if record is None:
            self.failed.emit(Problem("run_not_found", {"path": str(run.path)}), "")
            return
        params = TrainParams.model_validate(originals(self.place, record.record.params))
        files = tuple(files_of(params.as_json()))
        request = TrainRequest(run, files, lambda name: commands.resume_args(run.path, name))
        self._walk(params, lambda: request)

    def set_up(self, until: str = LAST_STEP) -> None:
        """Make what is missing of the environment, all of it or up to a step."""
        self._settings.asked_for = "set_up"
        self._submit(lambda: self._engine.run(self._worker.ask, since=FIRST_STEP, until=until), lambda: None)

    def choose(self, **changed: Any) -> None:
        """Change choices of set-up, and look at what follows from them."""
        self._submit(lambda: self.choices.choose(**changed), self.refresh)

    def remove_distribution(self) -> None:
        """Remove our own distribution on Windows, and look at what that leaves."""
        self._submit(self.choices.remove_own, self.refresh)

    def attach(self, run: RunFolder) -> None:
        """Watch a run that a trainer holds already."""
        if self._session is None:
            watch = self.place.watch(run)
            self._open_session(RunSession(run, watch, self, stop_times=self._stop_times, attached=True))

    def save_now(self) -> None:
        self._send("save")

    def pause(self) -> None:
        self._send("pause")

    def unpause(self) -> None:
        self._send("resume")

    def stop(self, save: bool = True) -> None:
        """Stop the run, or whatever is under way before one."""
        if self._session is not None:
            self._session.stop(save=save)
        else:
            self.cancel()

    def cancel(self) -> None:
        """End converting, set-up or merging; a run is stopped by `stop`."""
        if self._session is None:
            self._worker.cancel()

    def answer_consent(self, agreed: bool) -> None:
        """The person's answer to `consent_needed`."""
        self._worker.answer(agreed)

    def merge(
        self,
        checkpoint: Checkpoint,
        run: RunFolder,
        output: Path | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        """Merge a run's checkpoint into its base; the result is told by `merged`."""
        target = output if output is not None else self.merge_target(checkpoint, run)
        request = MergeRequest(self._base_of(run), checkpoint.adapter, target, options)

        def work() -> Status | None:
            self._merge.request = request
            self._engine.probe("merge")
            if self._engine.status("merge").state is State.MISSING:
                self._engine.plan("merge")
                self._engine.apply("merge")
            status = self._engine.status("merge")
            return None if status.fulfilled else status

        self._submit(work, lambda: self.merged.emit(str(target)))

    def use(self, model: Path) -> None:
        """Take a model to chat with."""
        if not Path(model).is_file():
            self.failed.emit(Problem("model_not_found", {"path": str(model)}), "")
            return
        self._put(StepView("use", State.SATISFIED.value, Path(model).name))
        self.use_ready.emit(str(model))

    def detach(self) -> None:
        """Let the run go on by itself: it outlives the window, and a later one attaches to it."""
        if self._session is None:
            return
        self._session.let_go()
        self._end_session(None)

    def close(self) -> None:
        """End every helper and wait for it; a run that was not stopped is left running."""
        if self._closed:
            return
        self._closed = True
        self.detach()
        self._worker.cancel()
        self.choices.close()
        self._jobs.close()
        self._worker.wait()

    # Walking the chain

    def _walk(self, params: TrainParams, make_request: Callable[[], TrainRequest]) -> None:
        render = tuple(commands.render_args(params.as_json()))
        convert = ConvertRequest(params.data, params.vocab, params.base_model, render)

        def work() -> Status | None:
            self._convert.request = convert
            self._train.request = None
            if (obstacle := self._engine.run(self._worker.ask, until=LAST_STEP)) is not None:
                return obstacle
            self._train.request = make_request()
            self._engine.probe("train")
            self._engine.plan("train")
            status = self._engine.apply("train")
            return None if status.fulfilled else status

        self._tails.clear()
        self._submit(work, lambda: None)

    def _new_request(self, params: TrainParams, name: str) -> TrainRequest:
        folder = new_run_folder(self.workspace.runs, name or Path(params.data).stem)
        files = tuple(files_of(params.as_json()))
        return TrainRequest(folder, files, lambda name: commands.train_args(params, folder.path, name))

    def _submit(self, work: Callable[[], Status | None], when_done: Callable[[], None]) -> None:
        """Prepare the work folder, then run `work` in the worker; what stands in its way is told."""
        if self.is_busy or self._closed:
            LOG.warning("the pipeline does one thing at a time")
            return
        try:
            self.workspace.prepare()
        except AppError as error:
            self.failed.emit(error.problem, "")
            return
        self._worker.submit(work, lambda obstacle, problem: self._on_done(obstacle, problem, when_done))
        self._tell_busy()

    def _on_done(
        self, obstacle: Status | None, problem: AnyProblem | None, when_done: Callable[[], None]
    ) -> None:
        self._tell_busy()
        if problem is not None:
            self.failed.emit(problem, "")
        elif obstacle is None:
            when_done()
        elif obstacle.state is State.FAILED or obstacle.state in WAITS_FOR_PERSON:
            code = obstacle.code
            shown = Problem("internal", {"detail": obstacle.step_id}) if code is None else as_problem(code)
            if obstacle.state is State.NEEDS_REBOOT:
                self.restart_needed.emit(shown)
            else:
                self.failed.emit(shown, "\n".join(self._tails.get(obstacle.step_id, ())))

    def _on_engine(self, said: Transition | StepEvent) -> None:
        if isinstance(said, Transition):
            self._put(view_of(said.after))
            return
        step_id, payload = said.step_id, said.payload
        if isinstance(payload, OutputLine):
            self._tails.setdefault(step_id, deque(maxlen=LAST_LINES)).append(payload.text)
            self.step_line_received.emit(step_id, payload.text)
        elif isinstance(payload, Progress):
            view = self._views[step_id]
            self._put(replace(view, done=payload.done, total=payload.total, unit=payload.unit))
        elif isinstance(payload, Warned):
            self.warned.emit(payload.problem)

    def _put(self, view: StepView) -> None:
        before = self._views.get(view.id)
        if before == view:
            return
        self._views[view.id] = view
        if before is not None and replace(before, done=view.done, total=view.total) == view:
            # Numbers may go on thousands of times a second; whoever reads them needs to see a few.
            if not self._numbers_timer.isActive():
                self._numbers_timer.start()
        else:
            self.steps_changed.emit()

    def _tell_busy(self) -> None:
        if self._was_busy != self.is_busy:
            self._was_busy = self.is_busy
            self.busy_changed.emit(self._was_busy)

    # The run

    def train(self, folder: RunFolder, command: Command, cancel: CancelToken) -> JobOutcome:
        """For the train step, in the worker: have the run done in the event loop's thread, and wait.

        Raises:
            CancelledError: the window goes away, or the run was let go.
        """
        outcomes: queue.SimpleQueue[JobOutcome | None] = queue.SimpleQueue()
        self._training_wanted.emit(folder, command, outcomes)
        while True:
            try:
                outcome = outcomes.get(timeout=_POLL_S)
            except queue.Empty:
                if cancel.cancelled:
                    raise CancelledError from None
                continue
            if outcome is None:
                raise CancelledError
            return outcome

    def _begin_training(
        self, folder: RunFolder, command: Command, outcomes: queue.SimpleQueue[JobOutcome | None]
    ) -> None:
        if self._closed:
            return
        self._session_outcomes = outcomes
        self._open_session(RunSession(folder, command, self, stop_times=self._stop_times))

    def _open_session(self, session: RunSession) -> None:
        self._session = session
        self._run_folder = session.folder
        session.event_received.connect(self._on_run_event)
        session.line_received.connect(self.line_received)
        session.stop_rung_reached.connect(self.stop_rung_reached)
        session.answering_changed.connect(self.answering_changed)
        session.ended.connect(self._on_run_outcome)
        self._put(StepView("train", State.APPLYING.value, session.folder.run_id))
        self._tell_busy()
        self.run_started.emit(str(session.folder.path))
        self.place.keep_awake(True)
        session.start()

    def _on_run_event(self, event: object) -> None:
        if getattr(event, "t", "") == "step":
            step, total = event.get("step"), event.get("total")  # type: ignore[attr-defined]
            self._put(replace(self._views["train"], done=step or 0, total=total, unit="steps"))
        self.event_received.emit(event)

    def _on_run_outcome(self, outcome: JobOutcome) -> None:
        session = self._session
        if session is None:
            return
        attached = self._session_outcomes is None
        self._tails["train"] = deque(outcome.details().splitlines(), maxlen=LAST_LINES + 1)
        remove_unborn(session.folder)
        self._end_session(outcome)
        self.run_ended.emit(outcome.status)
        if attached and outcome.problem is not None:
            self.failed.emit(outcome.problem, outcome.details())

    def _end_session(self, outcome: JobOutcome | None) -> None:
        session, self._session = self._session, None
        outcomes, self._session_outcomes = self._session_outcomes, None
        if session is not None:
            session.deleteLater()
            self.place.keep_awake(False)
        if outcomes is not None:
            outcomes.put(outcome)
        else:
            done = outcome is not None and outcome.status == "completed"
            state = State.SATISFIED if done else State.MISSING
            self._put(replace(self._views["train"], state=state.value))
        self._tell_busy()

    def _send(self, command: str) -> None:
        if self._session is not None:
            self._session.send(command)

    def _base_of(self, run: RunFolder) -> Path:
        """The base model's file, as the run's own record names it."""
        info = RunStore(self.workspace.runs).get(run.path)
        return self.place.original(info.record.params["base_model"]) if info is not None else Path()

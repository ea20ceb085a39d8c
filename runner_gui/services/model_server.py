"""One model in a server of the trainer's, for as long as this window wants it."""

from __future__ import annotations

import logging
import secrets
import threading
from dataclasses import replace
from typing import Literal

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtNetwork import QNetworkAccessManager, QNetworkProxy

from runner_gui.model.problems import AnyProblem
from runner_gui.model.serving import ServeOptions
from runner_gui.services import commands
from runner_gui.services.commands import Command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.place import Here, Place
from runner_gui.services.process import JobProcess
from trainer.contract.errors import Problem
from trainer.contract.events import Event
from trainer.contract.files import disk_error
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.hosts.base import HostError
from wsl_bootstrap.step import StepError

LOG = logging.getLogger(__name__)
API_KEY_VARIABLE = "RWKV_API_KEY"
ANY_ADDRESS = "0.0.0.0"
_BRING_ENDS_S = 10.0
_ENDS_S = 5.0

State = Literal["off", "loading", "ready", "failed"]


class ModelServer(QObject):
    """Loads a model, or a base with an adapter or a state, and serves it.

    Args:
        place: where the server runs; None is this computer, with the window's own Python.

    Attributes:
        options: what is or was served, with the key that clients need.
        problem, details: why it failed.
        url, name, device, generation: known while it is ready.
        loaded: bytes that are done and bytes in all, while it loads; None where that is not known.
        network: for requests to it.

    Signals:
        state_changed: `state` is another.
        progressed: `loaded` is another.
        failed: a Problem and its details; the server is gone.
        ended: it was stopped, and no process of it is left.
    """

    state_changed = Signal()
    progressed = Signal()
    ended = Signal()
    failed = Signal(object, str)

    _brought = Signal(object, object)
    _copied = Signal(object, object)

    def __init__(self, place: Place | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._place = place or Here()
        self._bringing: tuple[threading.Thread, CancelToken] | None = None
        self._brought.connect(self._start_process)
        self._copied.connect(lambda cancel, said: self._show_loaded(cancel.cancelled, said.done, said.total))
        self._job: JobProcess | None = None
        self._ending: list[JobProcess] = []
        self.network = QNetworkAccessManager(self)
        # The server is on this computer: a proxy that the system knows must not see the talk.
        self.network.setProxy(QNetworkProxy(QNetworkProxy.ProxyType.NoProxy))
        self.state: State = "off"
        self.options: ServeOptions | None = None
        self.loaded: tuple[int, int] | None = None
        self.problem: AnyProblem | None = None
        self.details = ""
        self.url = self.name = self.device = self.generation = ""
        self.port = 0

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    @property
    def is_running(self) -> bool:
        """Whether it serves, or is on its way to."""
        return self.state in ("loading", "ready")

    @property
    def key(self) -> str:
        return (self.options.api_key if self.options else "") or ""

    @property
    def pid(self) -> int:
        """The process that this computer started; 0 where there is none."""
        return self._job.pid if self._job is not None else 0

    def start(self, options: ServeOptions) -> None:
        """Load a model; another one that was loaded is given up."""
        self.stop()
        if options.api_key is None:
            # Only this window may ask: whoever else is on this computer does not have the key.
            options = replace(options, api_key=secrets.token_urlsafe(24))
        self.options, self.problem, self.loaded = options, None, None
        self._set_state("loading")
        cancel = CancelToken()
        thread = threading.Thread(target=self._bring, args=(options, cancel), daemon=True)
        self._bringing = thread, cancel
        thread.start()

    def stop(self) -> None:
        """Give the model up; its process is asked to end, and made to after a while."""
        self._forget_bringing()
        job, self._job = self._job, None
        self.url = ""
        if job is not None:
            job.finished.disconnect(self._on_ended)
            job.finished.connect(self._on_gone)
            self._ending.append(job)
            job.terminate_group(_ENDS_S)
        if self.state != "off":
            self._set_state("off")
        if not self._ending:
            self.ended.emit()

    def close(self) -> None:
        """Give the model up and wait for the end of its process: for when the window itself goes."""
        self.stop()
        for job in list(self._ending):
            job.close()

    def _forget_bringing(self) -> None:
        if self._bringing is not None:
            thread, cancel = self._bringing
            cancel.cancel()
            thread.join(_BRING_ENDS_S)
            self._bringing = None

    def _on_gone(self) -> None:
        job = self.sender()
        self._ending = [one for one in self._ending if one is not job]
        if isinstance(job, JobProcess):
            job.deleteLater()
        if not self._ending:
            self.ended.emit()

    def _bring(self, options: ServeOptions, cancel: CancelToken) -> None:
        """In a thread of its own: have the model where it is read fast, which may take minutes once."""
        try:
            name = self._place.bring([options.model], lambda said: self._copied.emit(cancel, said), cancel)
            args = commands.serve_args(options, name)
            brought: Command | AnyProblem = self._place.trainer(
                args, options.model, env={API_KEY_VARIABLE: options.api_key or ""}
            )
        except CancelledError:
            return
        except (StepError, HostError) as error:
            brought = error.code
        except OSError as error:
            brought = disk_error(error, options.model).problem
        self._brought.emit(cancel, brought)

    def _start_process(self, cancel: CancelToken, command: Command | AnyProblem) -> None:
        if cancel.cancelled:
            return
        if not isinstance(command, Command):
            self._fail(command, "")
            return
        job = JobProcess(command, self)
        job.event_received.connect(self._on_event)
        job.finished.connect(self._on_ended)
        self._job = job
        job.start()

    def _on_event(self, event: Event) -> None:
        if event.t == "progress" and event.get("what") == "loading_model":
            self._show_loaded(self.sender() is not self._job, event.get("done"), event.get("total"))
        if event.t == "ready" and self.sender() is self._job:
            host = "127.0.0.1" if event["host"] == ANY_ADDRESS else event["host"]
            self.port = int(event["port"])
            self.url = f"http://{host}:{self.port}"
            self.name, self.device, self.generation = (
                str(event.get(field) or "") for field in ("model", "device", "generation")
            )
            self._set_state("ready")

    def _show_loaded(self, forgotten: bool, done: int | None, total: int | None) -> None:
        if not forgotten and done is not None and total:
            self.loaded = done, total
            self.progressed.emit()

    def _on_ended(self, outcome: JobOutcome) -> None:
        job = self._job
        if job is None or self.sender() is not job:
            return
        self._job = None
        self.url = ""
        job.deleteLater()
        problem = outcome.problem or Problem("internal", {"detail": f"exit status {outcome.exit_code}"})
        if isinstance(problem, Problem) and problem.code == "killed":  # that speaks of a run
            problem = Problem("server_killed", problem.args)
        busy = isinstance(problem, Problem) and problem.code == "port_busy"
        if busy and self.options is not None and self.options.port:
            # Another program has the port, and it is not ours to send away.
            again = replace(self.options, port=0)
            QTimer.singleShot(0, self, lambda: self.start(again))
            return
        self._fail(problem, outcome.details())

    def _fail(self, problem: AnyProblem, details: str) -> None:
        self.problem, self.details = problem, details
        self._set_state("failed")
        self.failed.emit(problem, details)

    def _set_state(self, state: State) -> None:
        self.state = state
        self.state_changed.emit()

"""One live run, whether this window started it or only found it: listened to, spoken to, stopped."""

from __future__ import annotations

import logging
import shutil
from typing import Any

from PySide6.QtCore import QObject, Signal

from runner_gui.services.commands import Command
from runner_gui.services.outcome import JobOutcome, OutcomeReader
from runner_gui.services.process_group import is_older_than, signal_group
from runner_gui.services.run_follower import RunFollower
from runner_gui.services.stop_ladder import StopLadder, StopTimes
from runner_gui.services.trainer_process import TrainerProcess
from runner_gui.services.watchdog import SILENCE_S, Watchdog
from trainer.contract.errors import Problem
from trainer.contract.events import Event, EventFramer, read_events
from trainer.contract.run_folder import RunFolder
from wsl_bootstrap.jobs.job import JobEnd

LOG = logging.getLogger(__name__)


class RunSession(QObject):
    """Everything between the window and a trainer at work.

    Args:
        folder: the run.
        command: starts its trainer; None attaches to one that runs.
        attached: the command does not start the trainer, it only lasts as long as that.

    Signals:
        event_received, line_received: what the run tells.
        stop_rung_reached: how far stopping got, one of `stop_ladder.RUNGS`.
        answering_changed: False when nothing is heard of the trainer any more.
        ended: a JobOutcome, once.
    """

    event_received = Signal(object)
    line_received = Signal(str)
    stop_rung_reached = Signal(str)
    answering_changed = Signal(bool)
    ended = Signal(object)

    def __init__(
        self,
        folder: RunFolder,
        command: Command | None,
        parent: QObject | None = None,
        *,
        stop_times: StopTimes | None = None,
        silence_s: float = SILENCE_S,
        attached: bool = False,
    ) -> None:
        super().__init__(parent)
        self.folder = folder
        self._reader = OutcomeReader(says_bye=True)
        self._command_number = 0
        self._forced = False
        self._exit_code: int | None = None
        self._attached = attached
        self._process = None if command is None else TrainerProcess(command, self)
        self._follower = RunFollower(folder, self, from_start=False, owned=command is not None)
        self._follower.event_received.connect(self._on_event)
        self._follower.line_received.connect(self._on_line)
        self._follower.ended.connect(self._on_follower_ended)
        self._ladder = StopLadder(self._send, self._signal, self, stop_times)
        self._ladder.rung_reached.connect(self.stop_rung_reached)
        self._watchdog = Watchdog(self, silence_s)
        self._watchdog.answering_changed.connect(self.answering_changed)

    @property
    def is_stopping(self) -> bool:
        return self._ladder.rung != ""

    @property
    def pid(self) -> int:
        """The trainer's process id where it is this window's child, else 0."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start or attach; a program that cannot be started is reported by `ended`."""
        if self._process is not None:
            self._process.ended.connect(self._on_process_ended)
            try:
                self._process.start()
            except OSError as error:
                problem = Problem("internal", {"detail": str(error)})
                self.ended.emit(JobOutcome("failed", None, problem, (str(error),)))
                return
        self._follower.start()
        self._watchdog.begin()

    def send(self, command: str, **fields: Any) -> None:
        """Hand a command over: save, pause, resume, eval, sample."""
        self._command_number += 1
        self._send({"cmd": command, "id": self._command_number, **fields})

    def stop(self, *, save: bool) -> None:
        """Bring it to its end, step by step; the first steps lose nothing."""
        self._command_number += 1
        self._ladder.begin(self._command_number, save=save)

    def let_go(self) -> None:
        """Leave the run to itself; a later window attaches to it."""
        self._follower.stop()
        self._watchdog.end()
        self._ladder.end()
        if self._process is not None:
            self._process.let_go()

    def _send(self, command: dict[str, Any]) -> None:
        if self._process is not None and not self._attached and self._process.send(command):
            return
        try:
            self.folder.send(command)
        except OSError as error:
            LOG.warning("command %s cannot be handed over: %s", command.get("cmd"), error)

    def _signal(self, force: bool) -> None:
        self._forced = True
        if self._process is not None:
            self._process.signal(force)
        elif (hello := last_hello(self.folder)) is not None and self.folder.is_running():
            # The lock says that a trainer lives; its start time, that the number is still its own.
            pid, pgid = hello.get("pid"), hello.get("pgid")
            if isinstance(pid, int) and isinstance(pgid, int) and is_older_than(pid, hello.ts):
                signal_group(pgid, force=force)

    def _on_event(self, event: Event) -> None:
        self._watchdog.beat()
        self._reader.note_event(event)
        self._ladder.note(event)
        self.event_received.emit(event)

    def _on_line(self, line: str) -> None:
        self._reader.note_line(line)
        self.line_received.emit(line)

    def _on_process_ended(self, end: JobEnd, said: bytes) -> None:
        self._follower.finish_reading()
        self._reader.note_wsl(end.code)
        if self._attached:  # says that the trainer is gone, and not how
            self._follower.finish()
            return
        self._exit_code = end.exit_code
        framer = EventFramer()
        for item in (*framer.feed(said), *framer.finish()):
            if isinstance(item, Event):
                self._reader.note_event(item)
            else:
                self._on_line(item)
        self._follower.finish()

    def _on_follower_ended(self, status: str) -> None:
        self._ladder.end()
        self._watchdog.end()
        outcome = self._reader.outcome(self._exit_code, we_killed=self._forced)
        if outcome.status == "killed" and status == "completed":
            outcome = JobOutcome("completed", self._exit_code, None, outcome.last_lines)
        self.ended.emit(outcome)


def last_hello(folder: RunFolder) -> Event | None:
    """The greeting of the trainer that had a run last: its process ids are in there."""
    try:
        events, _ = read_events(folder.events)
    except OSError:
        return None
    return next((event for event in reversed(events) if event.t == "hello"), None)


def remove_unborn(folder: RunFolder) -> None:
    """A run that failed before it began leaves no folder; what it said was told."""
    if not folder.run_json.exists() and not folder.ckpt.exists() and not folder.is_running():
        shutil.rmtree(folder.path, ignore_errors=True)

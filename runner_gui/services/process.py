"""One child process that belongs to the window: started, listened to, spoken to and ended with its group."""

from __future__ import annotations

import json
import logging
import os
import shutil
from typing import Any

from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from runner_gui.services.commands import Command, command_end
from runner_gui.services.outcome import JobOutcome, OutcomeReader
from runner_gui.services.process_group import end_job
from trainer.contract.errors import Problem
from trainer.contract.events import Event, EventFramer

LOG = logging.getLogger(__name__)
KILL_AFTER_S = 10.0


class JobProcess(QObject):
    """Runs one command to its end; a job is used once.

    Signals:
        event_received: an Event from its stdout.
        line_received: a line of other output, stdout or stderr.
        finished: a JobOutcome, once, after the last event and line.
    """

    event_received = Signal(object)
    line_received = Signal(str)
    finished = Signal(object)

    def __init__(self, command: Command, parent: QObject | None = None, *, says_bye: bool = False) -> None:
        super().__init__(parent)
        self.command = command
        self._reader = OutcomeReader(says_bye)
        self._result: dict[str, Any] | None = None
        self._pid = 0
        self._we_killed = False
        self._over = False
        self._framers: dict[QProcess.ProcessChannel, EventFramer] = {
            QProcess.ProcessChannel.StandardOutput: EventFramer(),
            QProcess.ProcessChannel.StandardError: EventFramer(),
        }
        self._kill_timer = QTimer(self, singleShot=True)
        self._kill_timer.timeout.connect(self._kill)
        self._process = self._make_process()

    def _make_process(self) -> QProcess:
        process = QProcess(self)
        process.setProcessChannelMode(QProcess.ProcessChannelMode.SeparateChannels)
        if os.name == "posix":
            parameters = QProcess.UnixProcessParameters()
            parameters.flags = QProcess.UnixProcessFlag.CreateNewSession
            process.setUnixProcessParameters(parameters)
        environment = QProcessEnvironment.systemEnvironment()
        for name, value in self.command.env.items():
            environment.insert(name, value)
        process.setProcessEnvironment(environment)
        if self.command.cwd is not None:
            process.setWorkingDirectory(str(self.command.cwd))
        process.readyReadStandardOutput.connect(self._on_stdout)
        process.readyReadStandardError.connect(self._on_stderr)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        return process

    @property
    def is_running(self) -> bool:
        return self._process.state() != QProcess.ProcessState.NotRunning

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group; 0 before the start."""
        return self._pid

    def start(self) -> None:
        """Start it; a program that cannot be started is reported by `finished`, like any other end."""
        program, *arguments = self.command.argv
        # Found here and not by the child, which would look in its own working folder too.
        found = shutil.which(program)
        if found is None:
            QTimer.singleShot(0, self, lambda: self._end_unstarted(program))
            return
        self._process.start(found, arguments)
        self._pid = int(self._process.processId())

    def send(self, command: dict[str, Any]) -> bool:
        """Write one JSON line to its stdin; false where it cannot be reached any more."""
        if not self.is_running:
            return False
        line = json.dumps(command, ensure_ascii=False).encode() + b"\n"
        return self._process.write(line) == len(line)

    def terminate_group(self, kill_after_s: float = KILL_AFTER_S) -> None:
        """Ask it and everything that it started to end; end them by force if they do not in time."""
        if not self.is_running:
            return
        self._we_killed = True
        end_job(self._pid, self.command.job, force=False)
        self._kill_timer.start(int(kill_after_s * 1000))

    def close(self, wait_s: float = 5.0) -> None:
        """End it now, by force if need be, and wait for that: for when the window itself goes."""
        if not self.is_running:
            return
        self._we_killed = True
        end_job(self._pid, self.command.job, force=False)
        if not self._process.waitForFinished(int(wait_s * 1000)):
            self._kill()
            self._process.waitForFinished(int(wait_s * 1000))

    def _kill(self) -> None:
        end_job(self._pid, self.command.job, force=True)

    def _on_stdout(self) -> None:
        self._take(QProcess.ProcessChannel.StandardOutput, self._process.readAllStandardOutput().data())

    def _on_stderr(self) -> None:
        self._take(QProcess.ProcessChannel.StandardError, self._process.readAllStandardError().data())

    def _take(self, channel: QProcess.ProcessChannel, chunk: bytes | bytearray | memoryview) -> None:
        for item in self._framers[channel].feed(bytes(chunk)):
            self._pass_on(item, channel)

    def _pass_on(self, item: Event | str, channel: QProcess.ProcessChannel) -> None:
        if isinstance(item, Event):
            self._reader.note_event(item)
            self.event_received.emit(item)
            return
        if channel == QProcess.ProcessChannel.StandardOutput and (result := _json_object(item)) is not None:
            self._result = result
            return
        self._reader.note_line(item)
        self.line_received.emit(item)

    def _on_error(self, error: QProcess.ProcessError) -> None:
        # Every other error is followed by `finished`.
        if error == QProcess.ProcessError.FailedToStart:
            self._end_unstarted(self._process.errorString())

    def _end_unstarted(self, reason: str) -> None:
        self._end(JobOutcome("failed", None, Problem("internal", {"detail": reason}), (reason,)))

    def _on_finished(self, exit_code: int, exit_status: QProcess.ExitStatus) -> None:
        self._kill_timer.stop()
        self._on_stdout()
        self._on_stderr()
        for channel, framer in self._framers.items():
            for item in framer.finish():
                self._pass_on(item, channel)
        # What the child started may outlive it, and nobody else would end that.
        end_job(self._pid, self.command.job, force=True)
        crashed = exit_status == QProcess.ExitStatus.CrashExit
        # A message in UTF-16, from a wsl.exe too old to be told otherwise, was read as UTF-8.
        said = "\n".join(self._reader.last_lines).replace("\0", "")
        end = command_end(self.command, -exit_code if crashed else exit_code, said)
        self._reader.note_wsl(end.code)
        outcome = self._reader.outcome(end.exit_code, we_killed=self._we_killed)
        self._end(
            JobOutcome(
                outcome.status, outcome.exit_code, outcome.problem, outcome.last_lines, result=self._result
            )
        )

    def _end(self, outcome: JobOutcome) -> None:
        if not self._over:
            self._over = True
            self.finished.emit(outcome)


def _json_object(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

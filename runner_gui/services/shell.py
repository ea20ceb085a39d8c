"""A shell in the environment: a process of its own, so nothing that is typed reaches a trainer.

It is bash reading commands from a pipe. That serves for looking and installing; what wants a real terminal
(an editor, a password) belongs into a window of the system's own, which `open_terminal` opens.
"""

from __future__ import annotations

import codecs
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import PurePath

from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, Signal

from runner_gui.services.process_group import signal_group
from wsl_bootstrap.hosts.base import Host, HostError

LOG = logging.getLogger(__name__)
_END_WAIT_MS = 2000
_SIGNAL_TIMEOUT_S = 5.0
# The environment's Python comes first, as after `activate`.
_ACTIVATED = 'export VIRTUAL_ENV="$0" PATH="$0/bin:$PATH"; exec "$@"'
# With a trap of its own bash survives the interrupt that ends the command which it waits for. The first line
# of the output is the process id on the side where it runs.
_PRELUDE = b"trap : INT; echo $$\n"
# Terminals, and what stands between them and the command that they are to run.
_TERMINALS = (
    ("x-terminal-emulator", ("-e",)),
    ("gnome-terminal", ("--",)),
    ("konsole", ("-e",)),
    ("xfce4-terminal", ("-x",)),
    ("kitty", ()),
    ("alacritty", ("-e",)),
    ("foot", ()),
    ("xterm", ("-e",)),
)


def shell_command(environment: PurePath) -> tuple[str, ...]:
    """Return the command, on the Linux side, that is a shell with an environment in front of its PATH."""
    return ("sh", "-c", _ACTIVATED, environment.as_posix(), "bash")


class EnvironmentShell(QObject):
    """One shell. What it runs ends with it.

    Args:
        host: where it runs.
        environment: the folder of the Python environment, on the Linux side.

    Signals:
        printed(str): output as it comes, not only whole lines.
        ended(): it is over, by itself or by `close`.
    """

    printed = Signal(str)
    ended = Signal()

    def __init__(self, host: Host, environment: PurePath, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._host = host
        self._pid_inside = ""
        self._greeting = b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._process = process = QProcess(self)
        process.setProcessChannelMode(QProcess.ProcessChannelMode.MergedChannels)
        if sys.platform != "win32":
            parameters = QProcess.UnixProcessParameters()
            parameters.flags = QProcess.UnixProcessFlag.CreateNewSession
            process.setUnixProcessParameters(parameters)
        variables = QProcessEnvironment.systemEnvironment()
        for name, value in host.environment({"TERM": "dumb"}).items():
            variables.insert(name, value)
        process.setProcessEnvironment(variables)
        program, *arguments = host.command(shell_command(environment))
        process.setProgram(program)
        process.setArguments(arguments)
        process.readyRead.connect(self._on_output)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)

    @property
    def is_running(self) -> bool:
        return self._process.state() != QProcess.ProcessState.NotRunning

    def start(self) -> None:
        self._process.start()
        self._process.write(_PRELUDE)

    def send(self, line: str) -> None:
        """Have a line carried out, after what was sent before it."""
        self._process.write(line.encode() + b"\n")

    def interrupt(self) -> None:
        """End the command under way, as Ctrl+C does; the shell goes on."""
        if self.is_running:
            # Reaching into a distribution takes a moment, and the window may not wait for it.
            threading.Thread(target=self._signal, args=("INT",), daemon=True).start()

    def close(self) -> None:
        """End it with everything that it started."""
        if self.is_running:
            self._process.closeWriteChannel()
            self._signal("HUP")
            if not self._process.waitForFinished(_END_WAIT_MS):
                signal_group(int(self._process.processId()), force=True)
                self._process.waitForFinished(_END_WAIT_MS)

    def _signal(self, name: str) -> None:
        """Signal the shell and what it runs, on the side where they are."""
        if not self._pid_inside.isdigit():
            return
        try:
            self._host.run(
                ["sh", "-c", 'kill -s "$0" -- -"$1"', name, self._pid_inside], timeout_s=_SIGNAL_TIMEOUT_S
            )
        except HostError as problem:
            LOG.warning("the shell cannot be signalled: %s", problem)

    def _on_output(self) -> None:
        chunk = self._process.readAll().data()
        if not self._pid_inside:
            self._greeting += bytes(chunk)
            first, end, chunk = self._greeting.partition(b"\n")
            if not end:
                return
            self._pid_inside = first.decode("ascii", "replace").strip()
            if not self._pid_inside.isdigit():  # it did not come to the greeting: this is why
                self._pid_inside, chunk = "-", self._greeting
        if text := self._decoder.decode(bytes(chunk)):
            self.printed.emit(text.replace("\r\n", "\n"))

    def _on_finished(self) -> None:
        self._on_output()
        self.ended.emit()

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.printed.emit(self._process.errorString() + "\n")
            self.ended.emit()


def terminal_command(
    command: Sequence[str], find: Callable[[str], str | None] = shutil.which
) -> list[str] | None:
    """Return the command that opens a window with a shell in it, or None where there is no terminal."""
    if sys.platform == "win32":
        return list(command)
    for name, between in _TERMINALS:
        if (found := find(name)) is not None:
            return [found, *between, *command]
    return None


def open_terminal(host: Host, environment: PurePath) -> bool:
    """Open the system's own terminal with a shell in the environment; false where there is none."""
    command = terminal_command(host.command(shell_command(environment)))
    if command is None:
        return False
    flags = subprocess.CREATE_NEW_CONSOLE if sys.platform == "win32" else 0
    try:
        # It is the person's from here on: it outlives this window, and nobody waits for it.
        process = subprocess.Popen(command, creationflags=flags, start_new_session=True)
    except OSError as problem:
        LOG.warning("%s: %s", command, problem)
        return False
    process.returncode = 0  # else its destructor warns of a forgotten child
    return True

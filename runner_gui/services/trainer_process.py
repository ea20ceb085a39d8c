"""The trainer of a run: a child that may outlive its window.

A QProcess ends its child when it is destroyed, so this is a plain one. It needs no pipe but stdin: what it
tells is in the run folder, and when stdin ends it goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from typing import IO, Any

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.services.commands import Command, command_end
from runner_gui.services.process_group import end_job
from wsl_bootstrap.wsl_output import decode

LOG = logging.getLogger(__name__)
POLL_MS = 100
STDERR_LIMIT_BYTES = 64 * 1024


class TrainerProcess(QObject):
    """Starts one trainer in a session of its own and reports its end.

    Signals:
        ended: how, as a `JobEnd`, and what it wrote to stderr before it had a log.
    """

    ended = Signal(object, bytes)

    def __init__(self, command: Command, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._poll = QTimer(self, interval=POLL_MS)
        self._poll.timeout.connect(self._check)

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group; 0 when it does not run."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: there is no such program, or no room for a temporary file.
        """
        # A file, not a pipe: a pipe would break when the window goes, and take the trainer along.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        flags = 0
        if sys.platform == "win32":  # no console of its own would flash up
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        try:
            self._process = subprocess.Popen(
                self.command.argv,
                cwd=self.command.cwd,
                env={**os.environ, **self.command.env},
                stdin=subprocess.PIPE,
                # Only wsl.exe has something to say there, and why it failed is all of it.
                stdout=subprocess.DEVNULL if self.command.job is None else self._stderr,
                stderr=self._stderr,
                start_new_session=True,
                creationflags=flags,
            )
        except OSError:
            self._stderr.close()
            raise
        self._poll.start()

    def send(self, command: dict[str, Any]) -> bool:
        """Write one JSON line to its stdin; false where it cannot be reached."""
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(json.dumps(command, ensure_ascii=False).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            LOG.warning("the trainer's stdin is closed: %s", error)
            return False
        return True

    def signal(self, force: bool) -> None:
        """Ask its process group to end, or end it."""
        if self._process is not None:
            end_job(self._process.pid, self.command.job, force=force)

    def let_go(self) -> None:
        """Leave it running, as if it had never been ours."""
        self._poll.stop()
        if self._process is not None:
            self._close_files()
            # Nobody waits for it any more, and that is meant: else its destructor warns of a forgotten child.
            self._process.returncode = 0
            self._process = None

    def close(self, wait_s: float = 5.0) -> None:
        """End it now and wait for that."""
        if self._process is None:
            return
        self.signal(force=False)
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.signal(force=True)
            self._process.wait(wait_s)
        self._check()

    def _check(self) -> None:
        if self._process is None or (exit_code := self._process.poll()) is None:
            return
        self._poll.stop()
        # What it started may outlive it, and nobody else would end that.
        end_job(self._process.pid, self.command.job, force=True)
        said = self._said()
        self._close_files()
        self._process = None
        self.ended.emit(command_end(self.command, exit_code, decode(said)), said)

    def _said(self) -> bytes:
        if self._stderr is None:
            return b""
        self._stderr.seek(0)
        return self._stderr.read(STDERR_LIMIT_BYTES)

    def _close_files(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

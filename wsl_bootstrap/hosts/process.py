"""Running commands on this machine: to their end, or line by line."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

from wsl_bootstrap.hosts.base import CommandNotFoundError, CommandTimeoutError, Completed

LOG = logging.getLogger(__name__)

# A grandchild that left the group may hold our pipe open; its words are not waited for longer than this.
_LAST_WORDS_S = 2.0
_LOGGED_CHARS = 4000


def decode_utf8(output: bytes) -> str:
    """Return what a program of Linux printed, with what is not UTF-8 marked and line ends unified."""
    return output.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def clean_line(line: str) -> str:
    """Return a line without its end, and without the NULs between the letters of UTF-16.

    An old wsl.exe that does not obey WSL_UTF8 prints them; the ASCII of its error path stays readable.
    """
    return line.rstrip("\n").replace("\0", "")


def run_to_end(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: PurePath | None = None,
    stdin: bytes = b"",
    decode: Callable[[bytes], str] = decode_utf8,
) -> Completed:
    """Run a command to its end and log it with what it printed. See `Host.run`.

    `stdin` is all that it is told, `decode` reads what it says.
    """
    began = time.monotonic()
    process = _spawn(
        argv, env, cwd, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        output = process.communicate(stdin or None, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _end_group(process)
        LOG.warning("%s: no end after %.1f s; ended by force", list(argv), timeout_s)
        raise CommandTimeoutError(argv, timeout_s) from None
    finally:
        _close(process)
    stdout, stderr = map(decode, output)
    done = Completed(tuple(argv), process.returncode, stdout, stderr, time.monotonic() - began)
    LOG.debug(
        "%s: exit %d after %.2f s\nstdout: %s\nstderr: %s",
        list(argv),
        done.exit_code,
        done.wall_s,
        stdout[-_LOGGED_CHARS:],
        stderr[-_LOGGED_CHARS:],
    )
    return done


class LocalProcess:
    """A command of this machine, in a process group of its own. See `hosts.base.Process`."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: PurePath | None = None
    ) -> None:
        self._argv = tuple(argv)
        self._process = _spawn(argv, env, cwd, stderr=subprocess.STDOUT)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._drained = False
        self._ended_at: float | None = None
        threading.Thread(target=self._pump, name=f"output of {argv[0]}", daemon=True).start()
        LOG.debug("%s: started as process %d", list(argv), self.pid)

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def drained(self) -> bool:
        """Whether it has ended and its last line was read."""
        return self._drained

    def read_line(self, timeout_s: float) -> str | None:
        """Return the next line, or None when none came in time or none will come any more."""
        try:
            line = self._lines.get(timeout=0 if self._drained else timeout_s)
        except queue.Empty:
            self._give_up_on_silence()
            return None
        if line is None:
            self._finish()
            return None
        LOG.debug("%d: %s", self.pid, line)
        return line

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the group, and after `grace_s` SIGKILL."""
        if self.exit_code is None:
            _ask_group(self._process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        _end_group(self._process)
        self._finish()

    def _pump(self) -> None:
        assert self._process.stdout is not None
        # A line that is drawn over and over ends in \r; read as text, it counts as a line.
        with io.TextIOWrapper(self._process.stdout, encoding="utf-8", errors="replace") as output:
            for line in output:
                self._lines.put(clean_line(line))
        self._process.wait()  # also reaps a process that nobody asks about again
        self._lines.put(None)

    def _give_up_on_silence(self) -> None:
        if self.exit_code is None:
            return
        now = time.monotonic()
        self._ended_at = self._ended_at or now
        if now - self._ended_at > _LAST_WORDS_S:
            self._finish()

    def _finish(self) -> None:
        if not self._drained:
            self._drained = True
            LOG.debug("%s: process %d ended with %d", list(self._argv), self.pid, self._process.wait())


def _spawn(
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: PurePath | None,
    *,
    stdin: int = subprocess.DEVNULL,
    stderr: int,
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            start_new_session=True,  # of no effect on Windows
            creationflags=_creation_flags(),
        )
    except OSError as problem:  # missing, not permitted, not a program: all of them "it may not be run"
        LOG.warning("%s: %s", list(argv), problem)
        raise CommandNotFoundError(argv) from problem


def _creation_flags() -> int:
    """No console window, which would flash up, and a process group of its own."""
    if sys.platform == "win32":
        return subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    return 0


def _ask_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to end; Windows has no way to ask a program without a window."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the whole group by force; one that is already gone is what was wanted."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _close(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()

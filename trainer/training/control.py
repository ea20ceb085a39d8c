"""Commands to a running trainer: JSON lines on stdin, or in the run folder's control.jsonl."""

from __future__ import annotations

import json
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

from trainer.contract.events import COMMANDS, EventWriter


class Control:
    """Collects commands from both doors; the training loop takes them between steps.

    Args:
        path: control.jsonl; what it held before now was for an earlier process.
        events: receives an `ack` for each command.
        stdin: binary stream, or None. Its end is no command: a window may go away while training goes on.
    """

    def __init__(self, path: Path, events: EventWriter, stdin: IO[bytes] | None) -> None:
        self._path, self._events = path, events
        self._offset = path.stat().st_size if path.exists() else 0
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        if stdin is not None:
            threading.Thread(target=self._read, args=(stdin,), name="commands", daemon=True).start()

    def put(self, command: dict[str, Any]) -> None:
        """Queue a command from inside the process (a signal handler)."""
        self._queue.put(command)

    def take(self) -> list[dict[str, Any]]:
        """The commands that have come since the last call."""
        self._poll_file()
        out = []
        while True:
            try:
                out.append(self._queue.get_nowait())
            except queue.Empty:
                return out

    def _read(self, stdin: IO[bytes]) -> None:
        for line in iter(stdin.readline, b""):
            self._line(line)

    def _poll_file(self) -> None:
        if not self._path.exists() or self._path.stat().st_size <= self._offset:
            return
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            block = file.read()
        whole = block[: block.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            command = json.loads(line)
        except ValueError:
            return
        if not isinstance(command, dict):
            return
        # Acknowledged as it comes: whoever waits for it must not take a long step for a dead trainer.
        known = command.get("cmd") in COMMANDS
        self._events.write("ack", id=command.get("id"), ok=known, code=None if known else "unknown_command")
        if known:
            self._queue.put(command)


def obey_signals(control: Control) -> dict[int, Any]:
    """Make SIGTERM and Ctrl+C save and stop; returns the handlers that were there before."""

    def on_signal(number: int, frame: Any) -> None:
        control.put({"cmd": "stop", "save": True})

    return {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}


def command_stream() -> IO[bytes] | None:
    """stdin where a program writes to it; a terminal's keys are not commands."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    # Unbuffered, on the descriptor: a thread that waits in the buffered stdin holds its lock, and the
    # interpreter aborts at its end.
    return open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)

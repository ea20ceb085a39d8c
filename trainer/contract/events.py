"""The event stream between the trainer and whoever watches it: envelope, framing, reading.

One JSON object a line. `events.jsonl` in the run folder is the truth; the feed (the trainer's stdout) carries
the same bytes with RS (0x1e, RFC 7464) before each, so that a half line printed by native code cannot
corrupt an event.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from trainer.contract.files import disk_error

VERSION = 1
RS = b"\x1e"
MAX_LINE_BYTES = 64 * 1024

# type -> fields that are always present (null where unknown). Readers ignore what they do not know.
EVENT_FIELDS: dict[str, tuple[str, ...]] = {
    "hello": ("run_id", "pid", "pgid", "boot_id", "trainer", "python", "torch", "devices", "resumed_from"),
    "phase": ("name",),
    "progress": ("what", "done", "total", "unit"),
    "step": (
        "step", "epoch", "total", "loss", "lr", "grad_norm", "tok_s", "step_s", "eta_s", "tokens",
        "mem_bytes",
    ),
    "eval": ("step", "loss", "ppl", "best"),
    "drift": ("step", "kl", "tokens"),
    "estimate": ("step", "peak_bytes", "available_bytes", "step_s", "left_s", "measured"),
    "sample": ("step", "prompt", "text"),
    "checkpoint": ("step", "path", "bytes", "kind"),
    "warning": ("code", "args"),
    "error": ("code", "args", "fatal", "trace_tail"),
    "log": ("level", "msg"),
    "heartbeat": ("rss_bytes",),
    "ack": ("id", "ok", "code"),
    "ready": ("host", "port", "model", "generation", "device"),
    "bye": ("status", "step", "reason"),
}  # fmt: skip
PHASES = (
    "loading_model", "compiling_kernels", "reading_data", "warming_up", "training", "evaluating", "sampling",
    "saving", "merging", "verifying", "paused", "finishing",
)  # fmt: skip
CHECKPOINT_KINDS = ("periodic", "best", "manual", "final")
OUTCOMES = ("completed", "stopped", "failed")
COMMANDS = ("stop", "save", "pause", "resume", "eval", "sample")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its type, its number, its time (Unix seconds) and its fields."""

    t: str
    seq: int
    ts: float
    fields: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinities by null, and name them in `nonfinite` (JSON has neither)."""
    out: dict[str, Any] = {}
    nonfinite: dict[str, str] = {}
    for key, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            nonfinite[key] = "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
            value = None
        out[key] = value
    if nonfinite:
        out["nonfinite"] = nonfinite
    return out


def encode(event: Event) -> bytes:
    """The event's line, without RS, with its newline."""
    envelope = {"v": VERSION, "seq": event.seq, "ts": round(event.ts, 3), "t": event.t}
    return (
        json.dumps({**envelope, **_finite(event.fields)}, ensure_ascii=False, allow_nan=False).encode(
            "utf-8", errors="replace"
        )
        + b"\n"
    )


def decode(line: bytes) -> Event | None:
    """The event of one line, or None if the line is not an event of a version that we read.

    Anything before an RS in the line is foreign output and is dropped.
    """
    _, _, body = line.rpartition(RS)
    try:
        raw = json.loads(body)
    except ValueError:
        return None
    return from_json(raw)


def from_json(raw: Any) -> Event | None:
    """The event that a line's JSON is, or None if it is none of a version that we read."""
    if not isinstance(raw, dict) or raw.get("v") != VERSION or not isinstance(raw.get("t"), str):
        return None
    seq, ts = raw.get("seq"), raw.get("ts")
    if not isinstance(seq, int) or not isinstance(ts, (int, float)):
        return None
    fields = {key: value for key, value in raw.items() if key not in ("v", "seq", "ts", "t")}
    return Event(raw["t"], seq, float(ts), fields)


class EventFramer:
    """Turns arbitrary chunks of a process's stdout into events and other lines; frames on bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Event | str]:
        """Yield each whole line of what has come so far: an Event, or the text of a foreign line."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            yield from self._line(line)

    def finish(self) -> Iterator[Event | str]:
        """Yield what is left when the stream has ended."""
        rest, self._rest = self._rest, b""
        if rest:
            yield from self._line(rest)

    @staticmethod
    def _line(line: bytes) -> Iterator[Event | str]:
        foreign, mark, _ = line.rpartition(RS)
        event = decode(line) if mark else None
        if event is None:
            foreign = line
        if printable := foreign.replace(RS, b"").decode("utf-8", errors="replace").rstrip("\r"):
            yield printable
        if event is not None:
            yield event


class EventWriter:
    """Numbers events, appends them to a file first and then to the feed. Safe to use from threads.

    Args:
        path: `events.jsonl`, or None (commands without a run folder). Numbering goes on where it ended.
        feed: binary stream, or None. A reader that went away is not an error: the file is the truth.

    Attributes:
        listeners: called with each event that is in the file, by the thread that wrote it.
    """

    def __init__(self, path: Path | None, feed: IO[bytes] | None) -> None:
        self._lock = threading.Lock()
        self._feed = feed
        self.listeners: list[Callable[[Event], None]] = []
        self._file: IO[bytes] | None = None
        self._seq = 0
        if path is not None:
            self._seq = _mend_tail(path) + 1
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the writer

    def write(self, t: str, **fields: Any) -> Event:
        """Write one event of a registered type; fields that were not given are null.

        Raises:
            AppError: `disk_full` or `not_writable`; nothing of the event is left in the file.
        """
        complete = {**dict.fromkeys(EVENT_FIELDS[t]), **fields}
        with self._lock:
            event = Event(t, self._seq, time.time(), complete)
            line = encode(event)
            if self._file is not None:
                _append(self._file, line)
            self._seq += 1
            if self._feed is not None:
                try:
                    self._feed.write(RS + line)
                    self._feed.flush()
                except (BrokenPipeError, ValueError, OSError):
                    self._feed = None
            for listener in self.listeners:
                listener(event)
        return event

    def close(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _append(file: IO[bytes], line: bytes) -> None:
    """Write all of a line at the end of an unbuffered file, or none of it."""
    start = os.fstat(file.fileno()).st_size
    done = 0
    try:
        while done < len(line):  # a full disk takes what still fits before it fails
            done += file.write(line[done:])
    except OSError as error:
        os.ftruncate(file.fileno(), start)
        raise disk_error(error, Path(file.name)) from error


def _mend_tail(path: Path) -> int:
    """Cut a half-written last line off (a kill may leave one); the last event's number, or -1."""
    if not path.exists():
        return -1
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - 4 * MAX_LINE_BYTES)
        file.seek(start)
        tail = file.read()
        end = tail.rfind(b"\n") + 1
        if end != len(tail):
            file.truncate(start + end)
        for line in reversed(tail[:end].splitlines()):
            if (event := decode(line)) is not None:
                return event.seq
    return -1


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The events of a file from a byte offset on, and the offset behind the last whole line."""
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read()
    whole = block[: block.rfind(b"\n") + 1]
    events = [event for line in whole.splitlines() if (event := decode(line)) is not None]
    return events, offset + len(whole)

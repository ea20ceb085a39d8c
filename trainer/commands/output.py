"""What commands print: the event feed for programs, readable lines for people, JSON results for both."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainer.contract.errors import AppError, ParameterError, Problem
from trainer.contract.events import RS, Event, decode, encode

# Set by a program that starts commands: errors come on stderr as events too, with their arguments.
EVENTS_VARIABLE = "RWKV_TRAINER_EVENTS"
EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_STOPPED = 0, 1, 2, 3
SHOW = ("auto", "events", "text", "bar")


class HumanFeed:
    """A feed that prints events as readable lines, in UTF-8."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        event = decode(line.lstrip(RS))
        if event is not None and (sentence := self.line(event)):
            self._stream.write(f"{sentence}\n".encode(errors="replace"))

    def line(self, event: Event) -> str:
        """What is said of an event; an empty string for those that only programs want."""
        return readable(event)

    def flush(self) -> None:
        self._stream.flush()


class BarFeed(HumanFeed):
    """The same with a step's line as Lightning and tqdm print it, which many programs look for."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self._steps_per_epoch = self._epoch = 0
        self._step_s: list[float] = []

    def line(self, event: Event) -> str:
        if event.t == "hello":
            self._steps_per_epoch = event.get("steps_per_epoch") or 0
        if event.t != "step" or not self._steps_per_epoch:
            return super().line(event)
        from tqdm import tqdm

        if event["epoch"] != self._epoch:
            self._epoch, self._step_s = event["epoch"], []
        self._step_s.append(event["step_s"])
        loss = "nan" if event["loss"] is None else f"{event['loss']:.3f}"
        return tqdm.format_meter(
            event["step"] - event["epoch"] * self._steps_per_epoch,
            self._steps_per_epoch,
            sum(self._step_s),
            prefix=f"Epoch {event['epoch']}",
            rate=len(self._step_s) / sum(self._step_s),
            postfix=f"loss={loss}, lr={event['lr']:.2e}, tok/s={event['tok_s']:.0f}",
        )


@dataclass(slots=True)
class Output:
    """Where a command's events, its result and its errors go."""

    feed: Any
    stdout: IO[bytes]
    stderr: IO[bytes]

    def result(self, value: dict[str, Any]) -> None:
        """Print one JSON object as the last line of stdout."""
        self.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self.stdout.flush()

    def error(self, error: AppError) -> None:
        """Print every problem on a line of its own, with its code; a reader that went away is no error."""
        with contextlib.suppress(OSError):
            self.stderr.write("".join(error_lines(error)).encode())

    def log_to(self, path: Path) -> None:
        """Send what anything in this process prints to a file, unless a person watches the terminal.

        A window that closes takes the pipe of stderr along; a print into it would then end the run.
        """
        if os.isatty(2):
            return
        with open(path, "ab") as log:
            os.dup2(log.fileno(), 2)
            os.dup2(log.fileno(), 1)


def open_output(show: str = "auto") -> Output:
    """Keep stdout for events and the result, and send whatever else prints there to stderr.

    Done on file descriptors, before anything heavy is imported, because native code and third-party
    packages print to stdout too.

    Args:
        show: of `SHOW`; "auto" is text on a terminal and events elsewhere.
    """
    sys.stdout.flush()
    stdout, stderr = (os.fdopen(os.dup(fd), "wb", buffering=0) for fd in (1, 2))
    is_terminal = os.isatty(1)
    if show == "auto":
        show = "text" if is_terminal else "events"
    if not is_terminal:
        os.dup2(2, 1)
    feed = {"events": stdout, "text": HumanFeed(stdout), "bar": BarFeed(stdout)}[show]
    return Output(feed, stdout, stderr)


def readable(event: Event) -> str:
    """One line for a person, or an empty string for events that only programs want."""
    f = event.fields
    if event.t == "step":
        loss = "—" if f["loss"] is None else f"{f['loss']:.4f}"
        eta = "" if f.get("eta_s") is None else f"  left {f['eta_s']:.0f} s"
        return f"step {f['step']}/{f['total']}  loss {loss}  lr {f['lr']:.2e}  {f['tok_s']:.0f} tok/s{eta}"
    if event.t == "phase":
        return f"— {f['name'].replace('_', ' ')}"
    if event.t == "progress":
        return f"{f['what']}: {f['done']}" + (f"/{f['total']}" if f["total"] else "") + f" {f['unit']}"
    if event.t == "eval":
        return f"validation at step {f['step']}: loss {f['loss']:.4f}" if f["loss"] is not None else ""
    if event.t == "drift":
        return f"drift from the base at step {f['step']}: {f['kl']:.4f} nats a token"
    if event.t == "sample":
        return f"sample at step {f['step']}: {f['prompt']!r} → {f['text']!r}"
    if event.t == "checkpoint":
        return f"saved {f['path']} ({f['bytes'] / 1e6:.1f} MB)"
    if event.t in ("warning", "error"):
        return Problem(f["code"], f["args"] or {}, (f["args"] or {}).get("param")).sentence()
    if event.t == "ready":
        host = f"[{f['host']}]" if ":" in f["host"] else f["host"]
        return f"{f['model']} answers at http://{host}:{f['port']}/v1"
    if event.t == "bye":
        return f"{f['status']} at step {f['step']}"
    return ""


def missing_package(error: ModuleNotFoundError) -> AppError:
    """What to say where something that computes is not installed."""
    package = (error.name or "").partition(".")[0]
    return AppError("torch_missing") if package == "torch" else AppError("package_missing", package=package)


def error_lines(error: AppError) -> list[str]:
    """A line for each problem, with its code; before it, for a program that asked, its facts as an event."""
    problems = error.problems if isinstance(error, ParameterError) else [error.problem]
    lines: list[str] = []
    for problem in problems:
        if os.environ.get(EVENTS_VARIABLE):
            lines.append(RS.decode() + encode(_as_event(problem)).decode())
        lines.append(f"error[{problem.code}]: {problem.sentence()}\n")
    return lines


def _as_event(problem: Problem) -> Event:
    args = dict(problem.args) if problem.param is None else {**problem.args, "param": problem.param}
    return Event("error", 0, time.time(), {"code": problem.code, "args": args, "fatal": True})


def print_error(error: AppError) -> None:
    """Every problem on a line of its own on stderr, with its code."""
    sys.stderr.writelines(error_lines(error))

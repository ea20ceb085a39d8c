"""How a command ended, told from its events, its last words and its exit status, in that order of trust."""

from __future__ import annotations

import re
import signal
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runner_gui.model.problems import AnyProblem
from trainer.contract.errors import CODES, Problem
from trainer.contract.events import OUTCOMES, Event
from wsl_bootstrap.codes import Code

Status = Literal["completed", "stopped", "failed", "killed"]
EXIT_STOPPED = 3
LAST_LINES = 40
_ERROR_LINE = re.compile(r"^error\[(\w+)\]: (.*)$")


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """The end of a command.

    `exit_code` is negative for the signal that ended it, None where nobody could know it. `problem` is
    None unless it failed or was killed. `result` is the JSON object that it printed last, if any.
    """

    status: Status
    exit_code: int | None
    problem: AnyProblem | None = None
    last_lines: tuple[str, ...] = ()
    result: Mapping[str, Any] | None = None

    def details(self) -> str:
        """The facts for whoever looks closer: exit status and the last lines that were printed."""
        head = "" if self.exit_code is None else f"exit status {self.exit_code}\n"
        return head + "\n".join(self.last_lines)


class OutcomeReader:
    """Listens to a command's events and lines, and says at its end how it ended.

    Args:
        says_bye: whether the command reports its own end, so that an exit status alone proves nothing.
    """

    def __init__(self, says_bye: bool = False) -> None:
        self._says_bye = says_bye
        self._error: Problem | None = None
        self._sentence_error: Problem | None = None
        self._wsl: Code | None = None
        self._bye: Event | None = None
        self._lines: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """What was printed last."""
        return tuple(self._lines)

    def note_event(self, event: Event) -> None:
        if event.t == "hello":
            self._bye, self._error = None, None
        elif event.t == "bye":
            self._bye = event
        elif event.t == "error":
            problem = problem_of(event)
            # The first cause counts; what follows from it is told in the details.
            if event.get("fatal", True) is not False and self._error is None:
                self._error = problem
            self._lines.extend(event.get("trace_tail") or ())

    def note_line(self, line: str) -> None:
        self._lines.append(line)
        match = _ERROR_LINE.match(line)
        if match and self._sentence_error is None:
            code, sentence = match.groups()
            known = code in CODES and code != "internal"
            self._sentence_error = Problem(code) if known else Problem("internal", {"detail": sentence})

    def note_wsl(self, code: Code | None) -> None:
        """What happened to WSL itself, if anything did: the command could do nothing about that."""
        self._wsl = code

    def outcome(self, exit_code: int | None, *, we_killed: bool = False) -> JobOutcome:
        """Put together what is known.

        Args:
            exit_code: the exit status, negative for a signal; None where the process was not ours.
            we_killed: the signal came from the window, on the person's order.
        """
        status = self._status(exit_code)
        problem: AnyProblem | None = None
        if status == "failed":
            problem = self._error or self._sentence_error or self._unexplained(exit_code)
        elif status == "killed" and we_killed:
            status = "stopped"
        elif status == "killed":
            problem = self._wsl or Problem("killed", {"signal": _signal_name(exit_code)})
        return JobOutcome(status, exit_code, problem, self.last_lines)

    def _status(self, exit_code: int | None) -> Status:
        if self._bye is not None and self._bye.get("status") in OUTCOMES:
            return self._bye["status"]
        if self._error is not None or self._sentence_error is not None:
            return "failed"
        if self._wsl is not None or exit_code is None or exit_code < 0:
            return "killed"
        if exit_code == EXIT_STOPPED:
            return "stopped"
        return "completed" if exit_code == 0 and not self._says_bye else "failed"

    def _unexplained(self, exit_code: int | None) -> Problem:
        last = next((line for line in reversed(self._lines) if line.strip()), "")
        return Problem("internal", {"detail": last or f"exit status {exit_code}"})


def problem_of(event: Event) -> Problem:
    """The problem that an `error` or `warning` event carries; an unknown code stays visible as a detail."""
    code, args = event.get("code"), event.get("args")
    args = dict(args) if isinstance(args, dict) else {}
    if code in CODES:
        return Problem(code, args, args.get("param"))
    return Problem("internal", {"detail": f"{code} {args}"})


def _signal_name(exit_code: int | None) -> str:
    if exit_code is None:
        return "?"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return str(-exit_code)

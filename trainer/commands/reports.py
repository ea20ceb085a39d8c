"""Progress and problems of commands that convert data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.contract.errors import Problem
from trainer.contract.events import EventWriter

MAX_LISTED = 50


@dataclass(slots=True)
class Reports:
    """Writes progress and problems as events, and remembers what the result tells of them."""

    events: EventWriter
    problems: list[dict[str, Any]] = field(default_factory=list)
    progressed: bool = False

    def problem(self, problem: Problem) -> None:
        if len(self.problems) < MAX_LISTED:
            self.problems.append(problem.as_json())
        self.events.write("warning", code=problem.code, args=dict(problem.args))

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        self.progressed = True
        self.events.write("progress", what="convert", done=done_bytes, total=total_bytes, unit="bytes")

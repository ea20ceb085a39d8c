"""Runs that wait for their turn, as they are kept between starts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runner_gui.model.problems import AnyProblem, as_code, as_problem
from trainer.contract.params import TrainParams
from wsl_bootstrap.codes import Code, Severity


class QueueEntry(BaseModel):
    """One run to be: its parameters are frozen when it is added.

    `run` is its run folder from when it has one; `problem` what stood in its way, as code and facts.
    """

    model_config = ConfigDict(extra="ignore")

    id: str = Field(default_factory=lambda: uuid.uuid4().hex)
    added_ts: float = Field(default_factory=time.time)
    params: dict[str, Any] = Field(default_factory=dict)
    run: str = ""
    problem: tuple[str, dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        return Path(str(self.params.get("data", ""))).stem

    @property
    def waits(self) -> bool:
        """Whether it is still to be started."""
        return not self.run and self.problem is None

    def failed(self, problem: AnyProblem) -> None:
        code = as_code(problem)
        self.problem = (code.id, {name: str(value) for name, value in code.args.items()})

    def what_failed(self) -> AnyProblem | None:
        return (
            None
            if self.problem is None
            else as_problem(Code(self.problem[0], Severity.ERROR, self.problem[1]))
        )


class QueueState(BaseModel):
    """The whole queue. `active`: the next run starts by itself when nothing is under way."""

    model_config = ConfigDict(extra="ignore")

    version: Literal[1] = 1
    active: bool = False
    entries: list[QueueEntry] = Field(default_factory=list)

    def add(self, params: TrainParams) -> QueueEntry:
        entry = QueueEntry(params=params.as_json())
        self.entries.append(entry)
        return entry

    def next(self) -> QueueEntry | None:
        return next((entry for entry in self.entries if entry.waits), None)

    def get(self, entry_id: str) -> QueueEntry | None:
        return next((entry for entry in self.entries if entry.id == entry_id), None)

    def remove(self, entry_id: str) -> None:
        self.entries = [entry for entry in self.entries if entry.id != entry_id]

    def move(self, entry_id: str, by: int) -> None:
        """Let it change places with one before it (-1) or behind it (1)."""
        places = [entry.id for entry in self.entries]
        if entry_id in places:
            here = places.index(entry_id)
            there = min(max(here + by, 0), len(places) - 1)
            self.entries.insert(there, self.entries.pop(here))


def shown_params(entry: QueueEntry) -> Mapping[str, str]:
    """What a line of the queue says of a run: model and data by name."""
    return {name: Path(str(entry.params.get(name, ""))).name for name in ("base_model", "data")}

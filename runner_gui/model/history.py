"""The runs of a work folder as lines of a list, and what several of them differ in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner_gui.model.run_store import RunInfo, RunStore
from trainer.contract.params import PARAMS
from trainer.contract.run_folder import RunNotes


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One run: what it was, what it is called, how far it came. Numbers are None where nothing tells them."""

    info: RunInfo
    notes: RunNotes
    step: int | None = None
    loss: float | None = None
    best_val_loss: float | None = None
    seconds: float | None = None

    @property
    def run_id(self) -> str:
        return self.info.folder.run_id

    @property
    def name(self) -> str:
        """The person's own name for it, or that of its folder."""
        return self.notes.name or self.run_id

    @property
    def words(self) -> str:
        """What it is found by: what it is called, was made of, and is noted to be."""
        record = self.info.record
        return f"{self.name} {self.run_id} {self.notes.note} {record.base_name} {record.data_name}"


def history(store: RunStore) -> list[HistoryRow]:
    """Every run, newest first. Reads three small files a run, never its events."""
    return [history_row(info) for info in store.runs()]


def history_row(info: RunInfo) -> HistoryRow:
    numbers = {
        name: value if isinstance(value, (int, float)) else None
        for name in ("loss", "best_val_loss", "seconds", "step")
        for value in (info.summary.get(name),)
    }
    step = numbers.pop("step")
    return HistoryRow(info, info.folder.notes(), step=None if step is None else int(step), **numbers)


def differences(rows: Sequence[HistoryRow]) -> list[tuple[str, list[Any]]]:
    """The parameters in which runs differ, in the form's order, with each run's value."""
    if len(rows) < 2:
        return []
    stored = [row.info.record.params for row in rows]
    names = [*PARAMS, *sorted({name for params in stored for name in params} - set(PARAMS))]
    out = []
    for name in names:
        values = [params.get(name) for params in stored]
        # As JSON, since a list from a file and a tuple from a default mean the same.
        if len({json.dumps(value, sort_keys=True, default=str) for value in values}) > 1:
            out.append((name, values))
    return out

"""A run's curves as a table for other programs."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from runner_gui.model.series import RunSeries
from trainer.contract.files import atomic_write

COLUMNS = ("step", "loss", "val_loss", "lr", "grad_norm", "tok_s", "mem_bytes")


def export_csv(series: RunSeries, path: Path) -> None:
    """Write a line for each step that was trained or validated.

    A cell is empty where nothing was measured, and where a number was not finite. Machine spelling: commas
    between cells and points in numbers, whatever the language.

    Raises:
        AppError: `disk_full` or `not_writable`; a file that was there is untouched.
    """
    validated = {point.step: point.loss for point in series.evals}
    trained = {int(step): index for index, step in enumerate(series.steps)}
    columns = (series.loss, series.lr, series.grad_norm, series.tok_s, series.mem_bytes)
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        table = csv.writer(text, lineterminator="\n")
        table.writerow(COLUMNS)
        for step in sorted(trained | validated):
            at = trained.get(step)
            loss, *others = (None if at is None else _finite(column[at]) for column in columns)
            table.writerow([step, loss, validated.get(step), *others])
        text.flush()
        text.detach()  # the file is `atomic_write`'s, which has yet to sync it


def _finite(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) > 1e6 else float(value)

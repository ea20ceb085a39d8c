"""A run's numbers in the formats of other tools: `metrics.csv`, and event files for TensorBoard.

Both are made from the run's events as these are written, and nothing here reads them. A run that goes on from
step n writes the rows behind n anew.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from trainer.contract.events import Event, EventWriter
from trainer.contract.files import atomic_write, disk_error
from trainer.contract.params import TrainParams
from trainer.contract.run_folder import RunFolder

STEP_FIELDS = ("epoch", "tokens", "loss", "lr", "grad_norm", "tok_s", "step_s", "mem_bytes")
# Our event and its field -> the column, and the tag in TensorBoard.
OTHER_FIELDS = {("eval", "loss"): "val_loss", ("drift", "kl"): "drift_kl"}
COLUMNS = ("step", *STEP_FIELDS, *OTHER_FIELDS.values())
Log = Callable[[Event], None]


@contextmanager
def logging_to(run: RunFolder, params: TrainParams, events: EventWriter) -> Iterator[None]:
    """Have the logs that the parameters name written for as long as this lasts.

    Raises:
        AppError: `disk_full` or `not_writable`, also from whoever writes an event.
    """
    with ExitStack() as stack:
        if "csv" in params.log_formats:
            events.listeners.append(stack.enter_context(_csv_log(run.metrics_csv)))
        if "tensorboard" in params.log_formats:
            events.listeners.append(stack.enter_context(_tensorboard_log(run.tensorboard)))
        try:
            yield
        finally:
            events.listeners.clear()


@contextmanager
def _csv_log(path: Path) -> Iterator[Log]:
    """A row for each step; what was measured behind a step has a row of its own, as in Lightning's logs."""
    file: IO[str] | None = None

    def write(event: Event) -> None:
        nonlocal file
        if not (row := _numbers(event)):
            return
        try:
            if file is None:
                _keep_rows_before(path, event["step"])
                file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115 - until the run ends
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow({"step": event["step"], **row})
            file.flush()
        except OSError as error:
            raise disk_error(error, path) from error

    try:
        yield write
    finally:
        if file is not None:
            file.close()


def _numbers(event: Event) -> dict[str, Any]:
    if event.t == "step":
        return {name: event.get(name) for name in STEP_FIELDS}
    return {column: event.get(name) for (t, name), column in OTHER_FIELDS.items() if t == event.t}


def _keep_rows_before(path: Path, step: int) -> None:
    """Have the header and the rows of earlier steps in the file, and no half row that a kill has left."""
    with atomic_write(path) as out:
        out.write((",".join(COLUMNS) + "\n").encode())
        if not path.exists():
            return
        with open(path, "rb") as before:
            next(before, None)
            for line in before:
                number = line.partition(b",")[0]
                if line.endswith(b"\n") and number.isdigit() and int(number) < step:
                    out.write(line)


@contextmanager
def _tensorboard_log(folder: Path) -> Iterator[Log]:
    from tensorboardX import SummaryWriter

    writer: Any = None

    def write(event: Event) -> None:
        nonlocal writer
        row = {name: value for name, value in _numbers(event).items() if isinstance(value, (int, float))}
        if event.t != "sample" and not row:
            return
        if writer is None:
            # What an earlier process wrote behind this step is not shown any more.
            writer = SummaryWriter(
                str(folder), purge_step=event["step"], filename_suffix=f".{event['step']}", flush_secs=10
            )
        for name, value in row.items():
            writer.add_scalar(name, value, event["step"], event.ts)
        if event.t == "sample":
            writer.add_text(event["prompt"], event["text"], event["step"], event.ts)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()

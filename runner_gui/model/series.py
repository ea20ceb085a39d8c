"""What a run has shown so far, folded from its events: curves, checkpoints, samples, where it stands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runner_gui.model.event_blocks import read_blocks
from trainer.contract.events import Event, from_json

_COLUMNS = ("steps", "loss", "smoothed", "lr", "grad_norm", "tok_s", "mem_bytes")
_FIELDS = {"loss": "loss", "lr": "lr", "grad_norm": "grad_norm", "tok_s": "tok_s", "mem_bytes": "mem_bytes"}
DEFAULT_SMOOTHING = 0.9


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint as the table shows it; losses are None where they were not measured."""

    step: int
    kind: str
    path: str
    bytes: int
    loss: float | None
    val_loss: float | None
    best: bool


@dataclass(frozen=True, slots=True)
class EvalPoint:
    """One validation: `loss` is None where it was not finite; `best` says none before was lower."""

    step: int
    loss: float | None
    best: bool
    before: bool = False  # any training


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model answered to a prompt at a step."""

    step: int
    prompt: str
    text: str
    reference: str | None = None  # the data's own answer


class RunSeries:
    """Curves and lists of one run. Arrays are float64, NaN where a value is null.

    Events come in the order of their numbers; one that was seen already is ignored, so that a file's
    events and those that arrive live may overlap.

    Args:
        smoothing: weight of the past in the smoothed loss, in [0, 1).
    """

    def __init__(self, smoothing: float = DEFAULT_SMOOTHING) -> None:
        self._data = np.empty((len(_COLUMNS), 1024))
        self._count = 0
        self._ema, self._ema_weight = 0.0, 0.0
        self._smoothing = smoothing
        self._last_seq = -1
        self.read_bytes = 0  # how much of its file has been taken in
        self.evals: list[EvalPoint] = []
        self.checkpoints: list[CheckpointRow] = []
        self.samples: list[Sample] = []
        self.drifts: list[tuple[int, float]] = []  # step, nats a token from the base
        self.warnings: list[Event] = []
        self.error: Event | None = None
        self.nonfinite: Event | None = None
        self.seams: list[int] = []
        self.phase = ""
        self.progress: Event | None = None
        self.total: int | None = None
        self.last: Event | None = None
        self.last_ts: float | None = None
        self.status = ""
        self.session_steps = 0

    @classmethod
    def from_file(cls, path: Path, smoothing: float = DEFAULT_SMOOTHING) -> RunSeries:
        """The series of an events file (an empty one where there is none), in time linear in its size."""
        series = cls(smoothing)
        try:
            for read_bytes, found in read_blocks(path):
                series.read_bytes += read_bytes
                if not series._take_steps(found):
                    series.extend(item if isinstance(item, Event) else from_json(item) for item in found)
        except FileNotFoundError:
            return series
        return series

    def _take_steps(self, raws: Sequence[Any]) -> bool:
        """Take steps as JSON at once; False, and none of them, where they are not simply the next ones."""
        if not raws or isinstance(raws[0], Event):
            return False
        try:
            names = ("seq", "step", *_FIELDS)
            rows = np.array([[raw.get(name) for raw in raws] for name in names], dtype=float)
        except (TypeError, ValueError):
            return False
        before = self._data[0, self._count - 1] if self._count else -math.inf
        # A run that was resumed does some of its steps again.
        if not (np.diff(rows[:2], prepend=[[self._last_seq], [before]]) > 0).all():
            return False
        self._grow(len(raws))
        start, self._count = self._count, self._count + len(raws)
        self._data[0, start : self._count] = rows[1]
        for name, row in zip(_FIELDS, rows[2:], strict=True):
            self._data[_COLUMNS.index(name), start : self._count] = row
        self._smooth_from(start)
        if (last := from_json(raws[-1])) is not None:
            self.last, self._last_seq, self.last_ts = last, last.seq, last.ts
        self.total = next((raw["total"] for raw in reversed(raws) if "total" in raw), self.total)
        self.session_steps += len(raws)
        odd = next((raw for raw in reversed(raws) if raw.get("nonfinite")), None)
        self.nonfinite = self.nonfinite if odd is None else from_json(odd)
        return True

    def __len__(self) -> int:
        return self._count

    def _column(self, name: str) -> np.ndarray:
        return self._data[_COLUMNS.index(name), : self._count]

    @property
    def steps(self) -> np.ndarray:
        """Step numbers, strictly rising; float64[n], a view that later events may outdate."""
        return self._column("steps")

    @property
    def loss(self) -> np.ndarray:
        return self._column("loss")

    @property
    def smoothed(self) -> np.ndarray:
        """Exponential moving average of the loss, corrected for its start at zero (Kingma & Ba 2015)."""
        return self._column("smoothed")

    @property
    def lr(self) -> np.ndarray:
        return self._column("lr")

    @property
    def grad_norm(self) -> np.ndarray:
        return self._column("grad_norm")

    @property
    def tok_s(self) -> np.ndarray:
        return self._column("tok_s")

    @property
    def mem_bytes(self) -> np.ndarray:
        return self._column("mem_bytes")

    def extend(self, events: Iterable[Event | None]) -> None:
        for event in events:
            if event is not None:
                self.append(event)

    def append(self, event: Event) -> None:
        """Take one event; types that are not known change nothing."""
        if event.seq <= self._last_seq:
            return
        self._last_seq = event.seq
        self.last_ts = event.ts
        handler = getattr(self, f"_on_{event.t}", None)
        if handler is not None:
            handler(event)

    def set_smoothing(self, weight: float) -> None:
        """Smooth the whole loss anew with another weight of the past, in [0, 1)."""
        self._smoothing = weight
        self._ema, self._ema_weight = 0.0, 0.0
        self._smooth_from(0)

    def _on_hello(self, _: Event) -> None:
        self.status = "running"
        self.phase = ""
        self.error = None
        self.nonfinite = None
        self.session_steps = 0

    def _on_phase(self, event: Event) -> None:
        self.phase = str(event.get("name") or "")
        self.progress = None

    def _on_progress(self, event: Event) -> None:
        self.progress = event

    def _on_step(self, event: Event) -> None:
        step = event.get("step")
        if not isinstance(step, int):
            return
        if self._count and step <= self._data[0, self._count - 1]:
            self._rewind(step)
        self._grow()
        row = self._data[:, self._count]
        row[0] = step
        for name, field in _FIELDS.items():
            row[_COLUMNS.index(name)] = _number(event.get(field))
        self._count += 1
        self._smooth_from(self._count - 1)
        self.total = event.get("total", self.total)
        self.last = event
        self.session_steps += 1
        if event.get("nonfinite"):
            self.nonfinite = event

    def _on_eval(self, event: Event) -> None:
        step, loss = event["step"], _optional(event.get("loss"))
        self.evals = [point for point in self.evals if point.step < step]
        lowest = min((p.loss for p in self.evals if p.loss is not None and not p.before), default=math.inf)
        # What the model is like before training is no checkpoint's.
        best = loss is not None and loss < lowest and not event.get("before")
        if best:
            self.evals = [replace(point, best=False) for point in self.evals]
        self.evals.append(EvalPoint(step, loss, best, bool(event.get("before"))))
        self._mark_best()

    def _on_sample(self, event: Event) -> None:
        reference = event.get("reference")
        sample = Sample(
            event["step"],
            str(event["prompt"]),
            str(event["text"]),
            None if reference is None else str(reference),
        )
        same = (sample.step, sample.prompt)
        self.samples = [other for other in self.samples if (other.step, other.prompt) != same]
        self.samples.append(sample)

    def _on_drift(self, event: Event) -> None:
        self.drifts = [drift for drift in self.drifts if drift[0] < event["step"]]
        self.drifts.append((event["step"], _number(event.get("kl"))))

    def _on_checkpoint(self, event: Event) -> None:
        step = event["step"]
        same = next((row for row in self.checkpoints if row.step == step), None)
        kind = event.get("kind") or (same.kind if same else "periodic")
        loss, val_loss = _optional(event.get("loss")), _optional(event.get("val_loss"))
        if val_loss is None:
            val_loss = next((p.loss for p in reversed(self.evals) if p.step == step), None)
        row = CheckpointRow(
            step=step,
            kind=kind,
            path=str(event.get("path") or (same.path if same else "")),
            bytes=int(event.get("bytes") or (same.bytes if same else 0)),
            loss=loss if loss is not None else self._smoothed_at(step),
            val_loss=val_loss,
            best=kind == "best" or (same is not None and same.best),
        )
        kept = [other for other in self.checkpoints if other.step != step]
        self.checkpoints = sorted([*kept, row], key=lambda r: r.step)
        self._mark_best()

    def _on_warning(self, event: Event) -> None:
        self.warnings.append(event)

    def _on_error(self, event: Event) -> None:
        self.error = event

    def _on_bye(self, event: Event) -> None:
        self.status = str(event.get("status") or "")
        self.phase = ""
        self.progress = None

    def _rewind(self, step: int) -> None:
        """A resumed run does the steps after its last checkpoint again: they are drawn once, with a seam."""
        self._count = int(np.searchsorted(self.steps, step))
        self._restart_average()
        self.seams.append(step)
        self.evals = [point for point in self.evals if point.step < step]
        self.samples = [sample for sample in self.samples if sample.step < step]
        self.drifts = [drift for drift in self.drifts if drift[0] < step]
        self.checkpoints = [row for row in self.checkpoints if row.step < step]

    def _grow(self, more: int = 1) -> None:
        room = self._data.shape[1]
        if self._count + more > room:
            wider = np.empty((len(_COLUMNS), max(2 * room, self._count + more)))
            wider[:, : self._count] = self._data[:, : self._count]
            self._data = wider

    def _smooth_from(self, start: int) -> None:
        """Fill `smoothed` from index `start` on; the running average stands before it."""
        past, new = self._smoothing, 1.0 - self._smoothing
        out: list[float] = []
        for value in self._data[1, start : self._count].tolist():
            if math.isfinite(value):
                self._ema = past * self._ema + new * value
                self._ema_weight = past * self._ema_weight + new
            out.append(self._ema / self._ema_weight if self._ema_weight else math.nan)
        self._data[2, start : self._count] = out

    def _restart_average(self) -> None:
        """Bring the running average to where it stood after the newest point that is left."""
        self._ema, self._ema_weight = 0.0, 0.0
        # Beyond this many steps back, the past weighs less than rounding does.
        reach = 1 if self._smoothing <= 0 else int(-40.0 / math.log(self._smoothing)) + 1
        self._smooth_from(max(0, self._count - reach))

    def _smoothed_at(self, step: int) -> float | None:
        index = int(np.searchsorted(self.steps, step, side="right")) - 1
        return None if index < 0 else _optional(float(self.smoothed[index]))

    def _mark_best(self) -> None:
        best_step = next((p.step for p in reversed(self.evals) if p.best), None)
        if best_step is None:
            return
        val = {p.step: p.loss for p in self.evals}
        self.checkpoints = [
            CheckpointRow(
                r.step, r.kind, r.path, r.bytes, r.loss, val.get(r.step, r.val_loss), r.step == best_step
            )
            for r in self.checkpoints
        ]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _optional(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

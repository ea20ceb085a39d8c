"""Learning rate by optimizer step, and which steps, epochs and batches a run consists of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainer.contract.params import TrainParams

# "wsd" (warm-up, stable, decay) spends this share of its steps going down.
WSD_DECAY_SHARE = 0.2


def learning_rate(params: TrainParams, step: int, total: int) -> float:
    """The rate of optimizer step `step` (0-based) of `total`.

    Linear warm-up over `warmup_steps`, then `lr_init` → `lr_final` over the remaining steps by the schedule;
    the last step runs at `lr_final`.
    """
    if step < params.warmup_steps:
        return params.lr_init * (step + 1) / params.warmup_steps
    span = max(1, total - 1 - params.warmup_steps)
    progress = min(1.0, (step - params.warmup_steps) / span)
    first, last = params.lr_init, params.lr_final
    if params.lr_schedule == "constant":
        return first
    if params.lr_schedule == "cosine":
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))
    if params.lr_schedule == "exponential":
        return first * (last / first) ** progress
    falling = max(0.0, (progress - (1 - WSD_DECAY_SHARE)) / WSD_DECAY_SHARE)
    return first + (last - first) * falling


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Where each optimizer step's batches come from.

    An epoch has `batches_per_epoch` micro-batches on each device, as RWKV-Runner counts them; the optimizer
    steps once for `accumulate` of them, and once more for what is left at an epoch's end. Rows are drawn
    from an endless sequence of seeded permutations, so the position is a function of the step alone.
    """

    rows: int
    rows_per_epoch: int
    micro_bsz: int
    accumulate: int
    world_size: int
    epoch_begin: int
    epoch_count: int

    @classmethod
    def make(cls, params: TrainParams, rows: int, world_size: int) -> StepPlan:
        """Args: rows: rows of packed data; world_size: devices on all nodes."""
        per_batch = params.micro_bsz * world_size
        rows_per_epoch = params.epoch_steps * per_batch if params.epoch_steps else rows
        return cls(
            rows,
            rows_per_epoch,
            params.micro_bsz,
            params.accumulate_grad_batches,
            world_size,
            params.epoch_begin,
            params.epoch_count,
        )

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(self.rows_per_epoch / (self.micro_bsz * self.world_size))

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.accumulate)

    @property
    def first_step(self) -> int:
        return self.epoch_begin * self.steps_per_epoch

    @property
    def total_steps(self) -> int:
        return self.epoch_count * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def ends_epoch(self, done: int) -> bool:
        """Whether `done` finished steps end an epoch."""
        return done % self.steps_per_epoch == 0

    def positions(self, step: int, rank: int) -> list[list[int]]:
        """The sequence positions of each micro-batch of a step on one device; some may be empty."""
        epoch, within = divmod(step, self.steps_per_epoch)
        start = epoch * self.rows_per_epoch
        batches = range(within * self.accumulate, min((within + 1) * self.accumulate, self.batches_per_epoch))
        out = []
        for batch in batches:
            first = (batch * self.world_size + rank) * self.micro_bsz
            last = min(first + self.micro_bsz, self.rows_per_epoch)
            out.append([start + row for row in range(first, last)])
        return out

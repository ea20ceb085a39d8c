"""One optimizer step: losses of a window's micro-batches, one backward each, one clipped update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist

from trainer.contract.params import TrainParams
from trainer.models.skeleton import RWKV
from trainer.training.batches import Window
from trainer.training.device import Device
from trainer.training.optimizer import make_optimizer, set_learning_rate
from trainer.training.schedule import StepPlan, learning_rate
from trainer.training.updates import ReplicatedUpdate, Update, processes


@dataclass(frozen=True, slots=True)
class StepResult:
    """loss: nats per counted token before the update. grad_norm: before clipping. tokens: read."""

    loss: float
    grad_norm: float
    lr: float
    tokens: int


class TrainModule(pl.LightningModule):
    """The model under training.

    Lightning drives devices, processes and the loop; a "batch" of its loop is a whole accumulation window,
    so the loss is normalised by the window's counted tokens, however they fall on micro-batches and devices.
    """

    def __init__(self, model: RWKV, params: TrainParams, plan: StepPlan, device: Device, step: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.params, self.plan, self.compute = model, params, plan, device
        self.step = step
        self.result: StepResult | None = None
        self.scaler = torch.amp.GradScaler(device.kind, enabled=device.needs_scaler)
        self.adamw = make_optimizer(model, params, device.kind)
        self.update: Update = ReplicatedUpdate(model, params, self.adamw, self.scaler)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.adamw

    def transfer_batch_to_device(self, batch: Window, device: torch.device, dataloader_idx: int) -> Window:
        return batch  # `Windows` makes them where they are used

    def training_step(self, window: Window, batch_idx: int) -> None:
        # Each device draws dropout of its own; a step that is done again by a resumed run draws the same.
        torch.manual_seed(_seed(self.params.seed, self.step, self.global_rank))
        counted = self._sum(float(sum(batch.counted for batch in window)))
        tokens = self._sum(float(sum(batch.read_tokens for batch in window)))
        rate = learning_rate(self.params, self.step, self.plan.total_steps)
        set_learning_rate(self.adamw, rate)
        loss = self._sum(self.update.accumulate(window, counted))
        self.result = StepResult(loss, self.update.apply(loss), rate, int(tokens))
        self.step += 1

    def _sum(self, value: float) -> float:
        """The sum of a number over all devices."""
        if processes() == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.trainer.strategy.root_device)
        dist.all_reduce(total)
        return float(total)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise RuntimeError("runs are saved by trainer.training.checkpoints")


def _seed(*position: int) -> int:
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0] >> 1)

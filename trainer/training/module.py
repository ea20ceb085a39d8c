"""One optimizer step: losses of a window's micro-batches, one backward each, one clipped update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from trainer.contract.params import TrainParams
from trainer.data.packing import ALIGN
from trainer.models.skeleton import RWKV
from trainer.training.batches import Window
from trainer.training.bptt import segment_losses
from trainer.training.device import Device
from trainer.training.optimizer import make_optimizer, set_learning_rate
from trainer.training.schedule import StepPlan, learning_rate


@dataclass(frozen=True, slots=True)
class StepResult:
    """loss: nats per counted token before the update. grad_norm: before clipping. tokens: read."""

    loss: float
    grad_norm: float
    lr: float
    tokens: int

    @property
    def is_finite(self) -> bool:
        return bool(torch.isfinite(torch.tensor([self.loss, self.grad_norm])).all())


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
        self.chunk_tokens = -(-params.ctx_len // ALIGN) * ALIGN
        self.result: StepResult | None = None
        self.scaler = torch.amp.GradScaler(device.kind, enabled=device.needs_scaler)
        self.adamw = make_optimizer(model, params, device.kind)
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.adamw

    def transfer_batch_to_device(self, batch: Window, device: torch.device, dataloader_idx: int) -> Window:
        return batch  # `Windows` makes them where they are used

    def training_step(self, window: Window, batch_idx: int) -> None:
        counted = self._sum(float(sum(batch.counted for batch in window)))
        tokens = self._sum(float(sum(batch.read_tokens for batch in window)))
        rate = learning_rate(self.params, self.step, self.plan.total_steps)
        set_learning_rate(self.adamw, rate)
        loss = 0.0
        for batch in window:
            for part in segment_losses(
                self.model, batch, chunk_tokens=self.chunk_tokens, bptt_chunks=self.params.bptt_chunks
            ):
                self.scaler.scale(part / counted).backward()
                loss += float(part.detach()) / counted
        self._reduce_gradients()
        self.scaler.unscale_(self.adamw)
        limit = self.params.grad_clip or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, limit))
        self.result = StepResult(self._sum(loss), norm, rate, int(tokens))
        # fp16 may overflow in a gradient: its scaler then skips the update and lowers the scale.
        if self.result.is_finite or self.compute.needs_scaler:
            self.scaler.step(self.adamw)
            self.scaler.update()
        self.adamw.zero_grad(set_to_none=True)
        self.step += 1

    def _sum(self, value: float) -> float:
        """The sum of a number over all devices."""
        if self._world_size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total)

    def _reduce_gradients(self) -> None:
        """Sum the gradients over all devices, once a step and in one message."""
        for param in self.trained:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        if self._world_size == 1:
            return
        grads = [param.grad for param in self.trained if param.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    @property
    def _world_size(self) -> int:
        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        raise RuntimeError("runs are saved by trainer.training.checkpoints")

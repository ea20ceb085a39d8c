"""From the losses of a window to an update of what is trained, on one device or on several."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.contract.params import TrainParams
from trainer.data.packing import ALIGN
from trainer.models.skeleton import RWKV
from trainer.training.batches import Window
from trainer.training.bptt import segment_losses


class Update(Protocol):
    """What a step does between its batches and its result. Every process does the same things in order."""

    def accumulate(self, window: Window, counted: float) -> float:
        """Run the backward passes of a window.

        Args:
            counted: targets of the window on all devices.

        Returns:
            What this device's batches add to the mean loss.
        """
        ...

    def apply(self, loss: float) -> float:
        """Share, clip and apply the gradients, unless they are not finite.

        Args:
            loss: of the window, of all devices.

        Returns:
            The norm of the gradients before clipping.
        """
        ...

    def optimizer_state(self, *, kept: bool = True) -> dict[str, Any]:
        """AdamW's state as it is on one device alone; empty where it is not `kept`."""
        ...

    def whole(self, parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
        """Within it these parameters can be read, however they are spread over devices."""
        ...


class ReplicatedUpdate:
    """Every device has all that is trained; gradients are summed once a step, in one message."""

    def __init__(
        self, model: RWKV, params: TrainParams, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> None:
        self._model, self._params, self._optimizer, self._scaler = model, params, optimizer, scaler
        self._trained = [p for p in model.parameters() if p.requires_grad]

    def accumulate(self, window: Window, counted: float) -> float:
        loss = 0.0
        for part in losses(self._model, window, self._params):
            self._scaler.scale(part / counted).backward()
            loss += float(part.detach()) / counted
        return loss

    def apply(self, loss: float) -> float:
        for param in self._trained:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        if processes() > 1:
            self._sum_gradients()
        self._scaler.unscale_(self._optimizer)
        limit = self._params.grad_clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self._trained, limit))
        # fp16 may overflow in a gradient: its scaler then skips the update and lowers the scale.
        if self._scaler.is_enabled() or (math.isfinite(loss) and math.isfinite(norm)):
            self._scaler.step(self._optimizer)
            self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def _sum_gradients(self) -> None:
        grads = [param.grad for param in self._trained if param.grad is not None]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def optimizer_state(self, *, kept: bool = True) -> dict[str, Any]:
        return self._optimizer.state_dict() if kept else {}

    def whole(self, parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
        return nullcontext()


def losses(model: RWKV, window: Window, params: TrainParams) -> Iterator[Tensor]:
    """The summed cross-entropies of a window, each to be followed by its backward pass."""
    chunk_tokens = -(-params.ctx_len // ALIGN) * ALIGN
    for batch in window:
        yield from segment_losses(
            model, batch, chunk_tokens=chunk_tokens, bptt_chunks=params.bptt_chunks, l2wrap=params.l2wrap
        )


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

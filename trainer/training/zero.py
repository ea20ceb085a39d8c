"""DeepSpeed's ZeRO: what is trained, or the whole model, in parts on several devices or in the main memory.

Stage 1 divides the optimizer's state, stage 2 the gradients too, stage 3 also the weights, of which a device
then gathers each layer's as it comes to it (Rajbhandari et al., arXiv 1910.02054). A run's files are the same
under every stage, and under none.
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.contract.errors import InputError
from trainer.contract.params import TrainParams
from trainer.data.packing import ALIGN
from trainer.models.skeleton import RWKV
from trainer.training.batches import Window
from trainer.training.head_loss import summed_loss
from trainer.training.updates import losses, processes

PREFIX = "deepspeed_stage_"
_MOMENTS = ("exp_avg", "exp_avg_sq")
# Smaller tensors stay whole on each device: vectors, norms, adapters, the low-rank matrices of 6 and 7.
_WHOLE_BELOW = 2_500_000


def stage(params: TrainParams) -> int:
    """ZeRO's stage, 0 without DeepSpeed."""
    return int(params.strategy.removeprefix(PREFIX)[0]) if params.strategy.startswith(PREFIX) else 0


def load_deepspeed(device: str) -> Any:
    """The package.

    Args:
        device: "cuda" or "cpu".

    Raises:
        InputError: `deepspeed_missing`.
    """
    if device == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ImportError as error:
        raise InputError("deepspeed_missing", reason=str(error)) from error
    deepspeed.utils.logging.logger.setLevel("ERROR")
    # Its messages between processes of one CPU are native code that is compiled as a run starts.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def configuration(params: TrainParams) -> dict[str, Any]:
    """What DeepSpeed is told. Precision is not its matter: masters in fp32 stand over a base of any dtype."""
    zero: dict[str, Any] = {"stage": stage(params)}
    offload = {"device": "cpu", "pin_memory": params.device != "cpu" and torch.cuda.is_available()}
    if params.strategy.endswith("offload"):
        zero["offload_optimizer"] = offload
    if stage(params) == 3:
        zero["stage3_param_persistence_threshold"] = _WHOLE_BELOW
        if params.strategy.endswith("offload"):
            zero["offload_param"] = offload
    return {
        "train_micro_batch_size_per_gpu": params.micro_bsz,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": params.grad_clip,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its own has to be compiled
        "zero_optimization": zero,
    }


class ZeroUpdate:
    """Gradients and updates by DeepSpeed's engine; a micro-batch is one forward and one backward pass.

    Args:
        optimizer: of what is trained, with the state of a run that goes on; DeepSpeed takes it over.
    """

    def __init__(self, model: RWKV, params: TrainParams, optimizer: torch.optim.AdamW, device: str) -> None:
        deepspeed = load_deepspeed(device)
        self._utils, self._gathered = deepspeed.utils, deepspeed.zero.GatheredParameters
        self._params, self._optimizer = params, optimizer
        self._groups = optimizer.state_dict()["param_groups"]
        self._trained: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        earlier = [optimizer.state.pop(p, None) for p in self._trained]
        self._engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=configuration(params), dist_init_required=False
        )
        self._make_moments()
        if any(earlier):
            self._restore([state or {} for state in earlier])

    def accumulate(self, window: Window, counted: float) -> float:
        loss = 0.0
        batches = [batch for batch in window if batch.counted]
        # Messages are exchanged in each pass, so every process makes as many as the one with the most.
        passes = torch.tensor(len(batches), device=self._engine.device)
        dist.all_reduce(passes, dist.ReduceOp.MAX)
        for number in range(int(passes)):
            self._engine.set_gradient_accumulation_boundary(number == int(passes) - 1)
            if number < len(batches):
                (part,) = losses(self._engine, [batches[number]], self._params)
                loss += float(part.detach()) / counted
            else:
                part = self._empty_pass()
            # The engine takes the mean over devices of what is to be summed.
            self._engine.backward(part * (processes() / counted))
        return loss

    def _empty_pass(self) -> Tensor:
        tokens = torch.zeros((1, ALIGN), dtype=torch.int64, device=self._engine.device)
        return self._engine(tokens, None, None, partial(summed_loss, tokens))[0] * 0.0

    def apply(self, loss: float) -> float:
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return math.nan if norm is None else float(norm)

    def optimizer_state(self, *, kept: bool = True) -> dict[str, Any]:
        state: dict[int, dict[str, Tensor]] = {}
        for index, param in enumerate(self._trained):
            moments = {key: self._utils.safe_get_full_optimizer_state(param, key) for key in _MOMENTS}
            if kept:
                state[index] = {"step": self._step(), **{key: x.cpu() for key, x in moments.items()}}
        return {"state": state, "param_groups": self._groups} if kept else {}

    def _step(self) -> Tensor:
        return next(iter(self._optimizer.state.values()))["step"].cpu()

    def _make_moments(self) -> None:
        # DeepSpeed looks for all groups' when the first one has stepped; the others' would not be there.
        for group in self._optimizer.param_groups:
            for flat in group["params"]:
                step = torch.zeros((), device=flat.device if group["fused"] else "cpu")
                moments = {key: torch.zeros_like(flat) for key in _MOMENTS}
                self._optimizer.state[flat] = {"step": step, **moments}

    def _restore(self, earlier: list[dict[str, Any]]) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = 0.0
        # A step that changes nothing makes the state that can then be set.
        self._engine.set_gradient_accumulation_boundary(True)
        self._engine.backward(self._empty_pass())
        self._engine.step()
        for param, state in zip(self._trained, earlier, strict=True):
            for key in _MOMENTS:
                self._utils.safe_set_full_optimizer_state(param, state[key], key)
        for state in self._optimizer.state.values():
            state["step"].fill_(float(earlier[0]["step"]))

    def whole(self, parameters: list[nn.Parameter]) -> AbstractContextManager[Any]:
        return self._gathered(parameters, enabled=stage(self._params) == 3)


def divide(model: RWKV, params: TrainParams, device: torch.device) -> None:
    """Give this process its part of each weight, one by one, so that no device ever holds the whole model."""
    zero = load_deepspeed(device.type).zero
    offload = "cpu" if params.strategy.endswith("offload") else None
    zero.Init(module=model, config_dict_or_path=configuration(params), remote_device=offload)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))

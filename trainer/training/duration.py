"""How long a run takes: flops of its products over the rate that the device reaches. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainer.contract.params import TrainParams
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import is_projection

# A product that is computed again beside the recomputation of everything else.
_RECOMPUTED = {"none": 0.0, "selective": 0.15, "full": 2.0}


def step_flops(infos: Mapping[str, TensorInfo], params: TrainParams, recomputed: str) -> float:
    """Flops of a step's products on one device, all tokens counting.

    A weight costs 2 a token forward, 2 for the gradient of its input, and 2 for its own where it is trained.
    """
    body = adapters = 0.0
    adapts = params.method not in ("full", "state")
    for name, info in infos.items():
        if name.startswith("blocks.") and len(info.shape) >= 2 and min(info.shape[-2:]) > 1:
            body += info.numel
        if adapts and is_projection(name) and name.split(".")[2] in params.lora_parts:
            adapters += params.lora_r * sum(info.shape)
    trained = params.method == "full"
    each = (6.0 if trained else 4.0) + _RECOMPUTED[recomputed]
    head = math.prod(infos["head.weight"].shape)
    head_each = 6.0 if trained or "head" in params.lora_parts else 4.0
    return step_tokens(params) * (each * body + 6.0 * adapters + head_each * head)


def step_tokens(params: TrainParams) -> int:
    """Tokens of a step on one device."""
    return params.micro_bsz * params.accumulate_grad_batches * params.ctx_len

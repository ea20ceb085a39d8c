"""AdamW over the trained tensors, in groups as RWKV's own trainers have them."""

from __future__ import annotations

import torch
from torch import nn

from trainer.contract.params import TrainParams

# RWKV-LM's layer-wise rates: the decay bias learns twice as fast.
FAST_SUFFIX, FAST_SCALE = "att.w0", 2.0
# A vector over the channels that is stored by heads, [H, N].
VECTOR_SUFFIX = "att.r_k"


def make_optimizer(model: nn.Module, params: TrainParams, device: str) -> torch.optim.AdamW:
    """Groups carry `lr_scale`; only matrices decay (LoRA's and full weights, never vectors or norms)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        is_matrix = param.squeeze().dim() >= 2 and not name.endswith(VECTOR_SUFFIX)
        key = (
            FAST_SCALE if name.endswith(FAST_SUFFIX) else 1.0,
            params.weight_decay if is_matrix else 0.0,
        )
        groups.setdefault(key, []).append(param)
    return torch.optim.AdamW(
        [
            {"params": members, "lr_scale": scale, "weight_decay": decay}
            for (scale, decay), members in groups.items()
        ],
        lr=params.lr_init,
        betas=(params.beta1, params.beta2),
        eps=params.adam_eps,
        fused=device == "cuda",
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]

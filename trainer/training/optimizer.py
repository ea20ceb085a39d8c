"""AdamW over the trained tensors, in groups as RWKV's own trainers have them."""

from __future__ import annotations

import re

import torch
from torch import nn

from trainer.contract.params import TrainParams

# RWKV-LM's layer-wise rates: decays learn twice as fast, RWKV-4's and 5's bonus three times.
_SCALES = {"w0": 2.0, "time_decay": 2.0, "time_first": 3.0}
# Of the attention: vectors over the channels that are stored by heads, [H, N], and states.
_NO_MATRICES = re.compile(r"\.att\.(r_k|time_decay|time_first|time_faaaa|time_state)$")


def make_optimizer(model: nn.Module, params: TrainParams, device: str) -> torch.optim.AdamW:
    """Groups carry `lr_scale`; only matrices decay (LoRA's and full weights, never vectors or norms)."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        is_matrix = param.squeeze().dim() >= 2 and not _NO_MATRICES.search(name)
        scale = _SCALES.get(name.rpartition(".att.")[2], 1.0)
        groups.setdefault((scale, params.weight_decay if is_matrix else 0.0), []).append(param)
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

"""Initial values of RWKV-7, for models trained from nothing and for tests (RWKV-LM's own recipe)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainer.models.layouts import ModelSpec
from trainer.models.rwkv7 import RWKV7


def _orthogonal(shape: torch.Size, gain: float, generator: torch.Generator) -> Tensor:
    weight = torch.empty(shape)
    if shape[0] > shape[1]:
        gain *= math.sqrt(shape[0] / shape[1])
    return nn.init.orthogonal_(weight, gain=gain, generator=generator)


def _uniform(shape: torch.Size, bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def _att_vectors(layer: int, spec: ModelSpec) -> dict[str, Tensor]:
    C, N, L = spec.n_embd, spec.head_size, spec.n_layer
    depth, rest = layer / max(1, L - 1), 1.0 - layer / L
    n = torch.arange(C, dtype=torch.float32)
    ramp = n / C
    linear = n / max(1, C - 1) - 0.5
    z = ((n % N) - (N - 1) / 2) / max(0.5, (N - 1) / 2)
    zigzag = z * z.abs()
    values = {
        "x_r": 1 - ramp ** (0.2 * rest), "x_g": 1 - ramp ** (0.2 * rest),
        "x_w": 1 - ramp ** (0.9 * rest), "x_a": 1 - ramp ** (0.9 * rest),
        "x_k": 1 - ramp ** (0.7 * rest), "x_v": 1 - ramp ** (0.7 * rest),
        "w0": -6 + 6 * (n / max(1, C - 1)) ** (1 + depth**0.3) + 0.5 + 2.5 * zigzag,
        "a0": -0.19 + 0.3 * zigzag + 0.4 * linear,
        "v0": 0.73 - 0.4 * linear,
        "k_k": 0.71 - 0.1 * linear,
        "k_a": torch.full((C,), 1.02),
    }  # fmt: skip
    return {name: value.view(1, 1, C) for name, value in values.items()}


@torch.no_grad()
def initialise(model: RWKV7, seed: int) -> RWKV7:
    """Fill every parameter of the model in place; the same seed gives the same values."""
    generator = torch.Generator().manual_seed(seed)
    spec = model.spec
    C, V = spec.n_embd, spec.vocab_size
    bound = 0.5 / math.sqrt(C)
    for name, param in model.named_parameters():
        leaf = name.split(".", 2)[-1] if name.startswith("blocks.") else name
        layer = int(name.split(".")[1]) if name.startswith("blocks.") else 0
        vectors = _att_vectors(layer, spec)
        if leaf == "emb.weight":
            value = _uniform(param.shape, 1e-4, generator)
        elif leaf == "head.weight":
            gain = 0.5 * math.sqrt(V / C) if V > C else 0.5
            value = nn.init.orthogonal_(torch.empty(param.shape), gain=gain, generator=generator)
        elif leaf == "att.ln_x.weight":
            value = torch.full(param.shape, ((1 + layer) / spec.n_layer) ** 0.7)
        elif leaf.endswith("bias") or leaf in ("att.output.weight", "ffn.value.weight"):
            value = torch.zeros(param.shape)
        elif ".ln" in f".{leaf}":
            value = torch.ones(param.shape)
        elif leaf in ("att.receptance.weight", "att.value.weight", "ffn.key.weight"):
            value = _uniform(param.shape, bound, generator)
        elif leaf == "att.key.weight":
            value = _uniform(param.shape, bound / 10, generator)
        elif leaf == "ffn.x_k":
            rest = 1.0 - layer / spec.n_layer
            value = 1 - (torch.arange(C, dtype=torch.float32) / C) ** (rest**4)
        elif leaf == "att.r_k":
            value = torch.full(param.shape, -0.04)
        elif leaf.removeprefix("att.") in vectors:
            value = vectors[leaf.removeprefix("att.")]
        elif leaf.endswith("1"):
            value = torch.zeros(param.shape)
        else:
            value = _orthogonal(param.shape, 0.1, generator)
        param.copy_(value.view(param.shape))
    return model

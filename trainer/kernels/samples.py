"""Random inputs of the recurrences, as models make them; for the tests of a machine's back ends."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.wkv4 import wkv4_reference


def _normal(seed: int, *shape: int) -> list[Tensor]:
    """Tensors [n, *shape] of standard normal numbers in float64, as a list over the first dimension."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(*shape, generator=generator, dtype=torch.float64))


def sample_wkv4(B: int, T: int, H: int, N: int, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """k, v, log_w, u of A = H·N channels and a state [B, 3, A] that has read tokens already, in float64."""
    A = H * N
    k, v, k0, v0 = _normal(seed, 4, B, T, A)
    w, u = _normal(seed + 1, 2, A)
    log_w = -torch.exp(w * 2 - 1)
    _, state = wkv4_reference(3 * k0, v0, log_w, u)
    return [3 * k, v, log_w, u], state


def sample_wkv56(B: int, T: int, H: int, N: int, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """r, log_w, k, v, u and a state [B, H, N, N], in float64; some decays forget everything at once."""
    r, k, v, w = _normal(seed, 4, B, T, H, N)
    (u,) = _normal(seed + 1, 1, H, N)
    (state,) = _normal(seed + 2, 1, B, H, N, N)
    return [r, -torch.exp(w * 3 - 2), k * 0.5, v, u], state


def sample_wkv7(B: int, T: int, H: int, N: int, seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """r, log_w, k, v, a, b (kk normalised, decay in (-0.6066, 0)) and a state [B, H, N, N], in float64."""
    r, k, v, kk, gate, w = _normal(seed, 6, B, T, H, N)
    (state,) = _normal(seed + 1, 1, B, H, N, N)
    kk = F.normalize(kk, dim=-1)
    log_w = -math.exp(-0.5) * torch.sigmoid(w * 2 - 1)
    return [r, log_w, k * 0.5, v, -kk, kk * torch.sigmoid(gate)], state

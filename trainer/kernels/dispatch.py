"""Which form of a recurrence runs: each candidate must pass the float64 test on this machine first."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.wkv7 import wkv7_chunked, wkv7_reference

WKV7 = Callable[..., tuple[Tensor, Tensor]]
BACKENDS: dict[str, WKV7] = {"chunked": wkv7_chunked, "reference": wkv7_reference}
# fp32 against float64, relative L2 over outputs and gradients; the worst measured is 1e-6.
TOLERANCE = 2e-5


def sample_inputs(
    B: int, T: int, H: int, N: int, *, dtype: torch.dtype, device: str = "cpu", seed: int = 0
) -> list[Tensor]:
    """r, log_w, k, v, a, b as a model makes them (kk normalised, decay in (-0.6066, 0))."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(B, T, H, N, generator=generator, dtype=torch.float64)

    r, k, v = normal(), normal() * 0.5, normal()
    kk = F.normalize(normal(), dim=-1)
    gate = torch.sigmoid(normal())
    log_w = -math.exp(-0.5) * torch.sigmoid(normal() * 2 - 1)
    return [x.to(device=device, dtype=dtype) for x in (r, log_w, k, v, -kk, kk * gate)]


@torch.enable_grad()  # the first forward pass, which asks for this, may be one without gradients
def _outputs_and_gradients(op: WKV7, inputs: list[Tensor], state: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    y, final = op(*leaves[:6], leaves[6])
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape).to(y)
    ((y * weight).sum() + final.sum()).backward()
    return [y.detach(), final.detach(), *(x.grad for x in leaves if x.grad is not None)]


def max_error(op: WKV7, device: str = "cpu") -> float:
    """Largest relative L2 error of outputs and gradients in fp32 against the float64 reference."""
    state = torch.sin(torch.arange(2 * 2 * 8 * 8, dtype=torch.float64)).view(2, 2, 8, 8)
    exact = _outputs_and_gradients(wkv7_reference, sample_inputs(2, 37, 2, 8, dtype=torch.float64), state)
    got = _outputs_and_gradients(
        op, sample_inputs(2, 37, 2, 8, dtype=torch.float32, device=device), state.to(device, torch.float32)
    )
    return max(float((g.double().cpu() - e).norm() / e.norm()) for g, e in zip(got, exact, strict=True))


def self_test(device: str = "cpu") -> list[tuple[str, float]]:
    """(back end, error) for each back end that runs on the device."""
    return [(name, max_error(op, device)) for name, op in BACKENDS.items()]


@lru_cache(maxsize=4)
def choose(device: str) -> tuple[str, WKV7]:
    """The first back end, fastest first, that is right on this device.

    Raises:
        RuntimeError: none is, so no number of this machine can be trusted.
    """
    for name, op in BACKENDS.items():
        if max_error(op, device) < TOLERANCE:
            return name, op
    raise RuntimeError(f"no WKV back end passes its test on {device}")

"""Which form of a recurrence runs: each candidate must pass the float64 test on this machine first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trainer.kernels.gpu.fla_core import wkv7_fla
from trainer.kernels.gpu.forms import wkv7_triton, wkv56_triton
from trainer.kernels.gpu.wkv4 import wkv4_triton
from trainer.kernels.native.build import NativeUnavailableError
from trainer.kernels.native.wkv4 import wkv4_native
from trainer.kernels.native.wkv7 import wkv7_native
from trainer.kernels.native.wkv56 import wkv56_native
from trainer.kernels.samples import sample_wkv4, sample_wkv7, sample_wkv56
from trainer.kernels.wkv4 import wkv4_chunked, wkv4_reference
from trainer.kernels.wkv7 import wkv7_chunked, wkv7_reference
from trainer.kernels.wkv56 import wkv56_chunked, wkv56_reference

Wkv = Callable[..., tuple[Tensor, Tensor]]
"""(inputs…, state, resets) -> (y, final state)."""

# Against float64, relative L2 over outputs and gradients; the worst measured in fp32 is 1e-6.
TOLERANCE = 2e-5
# Of 16-bit inputs and outputs, whose rounding alone is 0.4 %.
TOLERANCE_16_BIT = 2e-2

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Operation:
    """A recurrence and what can compute it.

    Attributes:
        sample: (B, T, H, N) -> inputs and an initial state, in float64.
        reference: the plain recurrence, right in float64.
        backends: what may run, fastest first.
    """

    sample: Callable[[int, int, int, int], tuple[list[Tensor], Tensor]]
    reference: Wkv
    backends: dict[str, Wkv]


OPERATIONS = {
    "wkv4": Operation(
        sample_wkv4,
        wkv4_reference,
        {
            "triton": wkv4_triton,
            "native": wkv4_native,
            "chunked": wkv4_chunked,
            "reference": wkv4_reference,
        },
    ),
    "wkv56": Operation(
        sample_wkv56,
        wkv56_reference,
        {
            "triton": wkv56_triton,
            "native": wkv56_native,
            "chunked": wkv56_chunked,
            "reference": wkv56_reference,
        },
    ),
    "wkv7": Operation(
        sample_wkv7,
        wkv7_reference,
        {
            "triton": wkv7_triton,
            "fla": wkv7_fla,
            "native": wkv7_native,
            "chunked": wkv7_chunked,
            "reference": wkv7_reference,
        },
    ),
}


@torch.enable_grad()  # the first forward pass, which asks for this, may be one without gradients
def _outputs_and_gradients(op: Wkv, inputs: list[Tensor], state: Tensor) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    # A document starts inside the first row, another one with the second.
    resets = torch.tensor([[False, True, False], [True, False, False]], device=state.device)
    y, final = op(*leaves, resets)
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape).to(y)
    ((y * weight).sum() + final.sum()).backward()
    return [y.detach(), final.detach(), *(x.grad for x in leaves if x.grad is not None)]


def max_error(operation: str, op: Wkv, device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Largest relative L2 error of outputs and gradients against the float64 reference, for the same inputs.

    Raises:
        NativeUnavailableError: the form cannot run here.
    """
    known = OPERATIONS[operation]
    inputs, state = known.sample(2, 37, 2, 8)
    inputs = [x.to(dtype) for x in inputs]
    exact = _outputs_and_gradients(known.reference, [x.double() for x in inputs], state)
    got = _outputs_and_gradients(op, [x.to(device) for x in inputs], state.to(device, torch.float32))
    return max(float((g.double().cpu() - e).norm() / e.norm()) for g, e in zip(got, exact, strict=True))


def self_test(
    operation: str, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> list[tuple[str, float]]:
    """(back end, error) for each back end that runs on the device."""
    found = []
    for name, op in OPERATIONS[operation].backends.items():
        with suppress(NativeUnavailableError):
            found.append((name, max_error(operation, op, device, dtype)))
    return found


def choose(operation: str, device: str, dtype: torch.dtype = torch.float32) -> tuple[str, Wkv]:
    """The first back end, fastest first, that is right on this device.

    Args:
        operation: of `OPERATIONS`. device: "cpu", "cuda", …
        dtype: of what the model computes; float64 is taken for fp32.

    Raises:
        RuntimeError: none is, so no number of this machine can be trusted.
    """
    return _choose(operation, device, dtype if dtype.itemsize < 4 else torch.float32)


@lru_cache(maxsize=16)
def _choose(operation: str, device: str, dtype: torch.dtype) -> tuple[str, Wkv]:
    tolerance = TOLERANCE if dtype == torch.float32 else TOLERANCE_16_BIT
    for name, op in OPERATIONS[operation].backends.items():
        try:
            error = max_error(operation, op, device, dtype)
        except NativeUnavailableError:
            continue
        except Exception as error:  # noqa: BLE001 - a compiler on the person's machine may raise anything
            _LOG.warning("%s in the form %r fails on %s: not used: %s", operation, name, device, error)
            continue
        if error < tolerance:
            _LOG.info("%s on %s: %s, exact to %.1e", operation, device, name, error)
            return name, op
        _LOG.warning("%s in the form %r is wrong by %.1e on %s: not used", operation, name, error, device)
    raise RuntimeError(f"no back end of {operation} passes its test on {device}")

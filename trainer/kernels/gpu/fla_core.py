"""RWKV-7's recurrence by the package fla-core (Triton, MIT), where it is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.chunks import CHUNK
from trainer.kernels.native.build import NativeUnavailableError

# No log-decay of RWKV-7 is lower; knowing that, the package multiplies in larger chunks.
_LOWEST_LOG_DECAY = -math.exp(-0.5) - 1e-5


@lru_cache
def _operation() -> Callable[..., Any] | None:
    if importlib.util.find_spec("fla") is None:
        return None
    from fla.ops.rwkv7 import chunk_rwkv7  # type: ignore[import-not-found]

    return chunk_rwkv7


def _runs_on(device: torch.device) -> bool:
    return device.type == "cuda"


def wkv7_fla(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
    state: Tensor | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The recurrence of `wkv7_reference`; every document becomes a sequence of the package's.

    Raises:
        NativeUnavailableError: fla-core is not installed, or the tensors are on no GPU.
    """
    if not _runs_on(r.device):
        raise NativeUnavailableError(f"the tensors are on {r.device}")
    if (operation := _operation()) is None:
        raise NativeUnavailableError("fla-core is not installed")
    B, T, H, N = r.shape
    starts = torch.zeros(B, T, dtype=torch.bool, device=r.device)
    if resets is not None:
        starts[:, ::CHUNK] = resets
    fresh = starts[:, 0].clone()
    starts[:, 0] = True
    begins = starts.flatten().nonzero().squeeze(1)
    of_row = begins.div(T, rounding_mode="floor")
    initial = r.new_zeros(len(begins), H, N, N, dtype=torch.float32)
    if state is not None:
        carried = (begins % T == 0) & ~fresh[of_row]
        initial = torch.where(carried[:, None, None, None], state.float().mT[of_row], initial)
    r, k, v, a, b = (x.to(v.dtype).reshape(1, B * T, H, N) for x in (r, k, v, a, b))
    y, final = operation(
        r, log_w.float().reshape(1, B * T, H, N), k, v, a, b, initial_state=initial, output_final_state=True,
        cu_seqlens=F.pad(begins, (0, 1), value=B * T), lower_bound=_LOWEST_LOG_DECAY,
    )  # fmt: skip
    last = torch.searchsorted(of_row, torch.arange(B, device=r.device), right=True) - 1
    return y.view(B, T, H, N), final[last].mT

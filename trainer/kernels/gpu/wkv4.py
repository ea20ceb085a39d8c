"""The RWKV-4 average by Triton kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.kernels.chunks import CHUNK, chunk_count
from trainer.kernels.gpu.forms import kept_chunks, kernels_for
from trainer.kernels.wkv4 import NOTHING, wkv4_chunked

# Few channels a program, so that the programs of a single row are many.
BLOCK = 32


def _launch(v: Tensor) -> tuple[tuple[int, int], tuple[int, int, int], dict[str, int]]:
    """Grid, (T, A, chunks) and constants."""
    B, T, A = v.shape
    return (B, -(-A // BLOCK)), (T, A, chunk_count(T)), {"C": CHUNK, "BLOCK": BLOCK, "num_warps": 1}


class _Wkv4(torch.autograd.Function):
    """k and v [B, T, A], log_w and u [A], the state [B, 3, A] in fp32; all contiguous."""

    @staticmethod
    def forward(
        ctx: Any, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, first: Tensor, keep: Tensor
    ) -> tuple[Tensor, Tensor]:
        grid, (T, A, chunks), constants = _launch(v)
        states, last, y = first.new_empty(len(v), chunks, 3, A), torch.empty_like(first), torch.empty_like(v)
        kernel = kernels_for(v).wkv4_forward[grid]
        kernel(k, v, log_w, u, first, keep, states, last, y, T, A, chunks, NOTHING, **constants)
        ctx.save_for_backward(k, v, log_w, u, keep, states)
        ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        k, v, log_w, u, keep, states = ctx.saved_tensors
        grid, (T, A, chunks), constants = _launch(v)
        dy, dlast = (None if grad is None else grad.contiguous() for grad in grads)
        dy = torch.zeros_like(v) if dy is None else dy
        dlast = states.new_zeros(len(v), 3, A) if dlast is None else dlast
        inside, dfirst = states.new_empty(len(v), CHUNK, 3, A), torch.empty_like(dlast)
        dk, dv, dw, du = torch.empty_like(k), torch.empty_like(v), *states.new_empty(2, len(v), A)
        kernels_for(v).wkv4_backward[grid](
            k, v, log_w, u, keep, states, dy, dlast, inside, dk, dv, dw, du, dfirst, T, A, chunks, **constants
        )
        return dk, dv, dw.sum(0).to(log_w.dtype), du.sum(0).to(u.dtype), dfirst, None


def wkv4_triton(
    k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None = None, resets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The average of `wkv4_reference`, in fp32; float64 goes through `wkv4_chunked`.

    Raises:
        NativeUnavailableError: Triton is not installed, or the tensors are on no GPU.
    """
    kernels_for(v)
    if v.dtype == torch.float64:
        return wkv4_chunked(k, v, log_w, u, state, resets)
    if state is None:
        state = v.new_zeros(len(v), 3, v.shape[-1], dtype=torch.float32)
        state[:, 2] = NOTHING
    inputs = (x.contiguous() for x in (k, v, log_w, u, state.float()))
    return _Wkv4.apply(*inputs, kept_chunks(resets, len(v), v.shape[1], v.device))

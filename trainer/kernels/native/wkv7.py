"""The RWKV-7 recurrence by the C file beside this one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.kernels.chunks import chunk_count
from trainer.kernels.native.library import HEAD_SIZE, call, fill_up, require, suits
from trainer.kernels.wkv7 import wkv7_chunked


class _Wkv7(torch.autograd.Function):
    """fp32 [B, T, H, HEAD_SIZE], contiguous."""

    @staticmethod
    def forward(
        ctx: Any, r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
        state: Tensor | None, resets: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        B, T, H, N = r.shape
        decay = log_w.exp()
        y, final = torch.empty_like(v), v.new_empty(B, H, N, N)
        sa = states = None
        if any(ctx.needs_input_grad):
            sa, states = torch.empty_like(v), v.new_empty(B, H, chunk_count(T), N, N)
        inputs = {"r": r, "decay": decay, "k": k, "v": v, "a": a, "b": b, "resets": resets}
        call("wkv7", "forward", (B, T, H), **inputs, initial=state, y=y, final=final, sa=sa, states=states)
        ctx.save_for_backward(*inputs.values(), sa, states)
        ctx.set_materialize_grads(False)  # nobody asks for the gradient of the final state in training
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        r, decay, k, v, a, b, resets, sa, states = ctx.saved_tensors
        dy, dfinal = (None if grad is None else grad.contiguous() for grad in grads)
        B, T, H, N = r.shape
        out = {f"d{name}": torch.empty_like(r) for name in ("r", "log_w", "k", "v", "a", "b")}
        dinitial = r.new_empty(B, H, N, N) if ctx.needs_input_grad[6] else None
        call(
            "wkv7", "backward", (B, T, H), r=r, decay=decay, k=k, v=v, a=a, b=b, resets=resets, sa=sa,
            states=states, dy=torch.zeros_like(r) if dy is None else dy, dfinal=dfinal, **out,
            dinitial=dinitial,
        )  # fmt: skip
        return (*out.values(), dinitial, None)


def wkv7_native(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same numbers by compiled code, token by token; fp32 inside, also for lower dtypes.

    What the C file is not made for, float64 and larger heads, goes through `wkv7_chunked`.

    Raises:
        NativeUnavailableError: the tensors are not on the CPU, or the C file cannot be compiled here.
    """
    require("wkv7", r)
    N = r.shape[-1]
    if not suits(r) or N > HEAD_SIZE:
        return wkv7_chunked(r, log_w, k, v, a, b, state, resets)
    inputs = [fill_up(x, 1) for x in (r, log_w, k, v, a, b)]
    y, final = _Wkv7.apply(
        *inputs, None if state is None else fill_up(state, 2), None if resets is None else resets.contiguous()
    )
    return y[..., :N].to(v.dtype), final[..., :N, :N]

"""The RWKV-4 average by the C file beside this one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.kernels.chunks import chunk_count
from trainer.kernels.native.library import HEAD_SIZE, call, fill_up, require, suits
from trainer.kernels.wkv4 import wkv4_chunked


class _Wkv4(torch.autograd.Function):
    """fp32 [B, T, A], A a multiple of HEAD_SIZE, contiguous."""

    @staticmethod
    def forward(
        ctx: Any, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        B, T, A = v.shape
        y, final = torch.empty_like(v), v.new_empty(B, 3, A)
        states = v.new_empty(B, T, 3 * A) if any(ctx.needs_input_grad) else None
        inputs = {"k": k, "v": v, "decay": log_w, "u": u, "initial": state, "resets": resets}
        call("wkv4", "forward", (B, T, A // HEAD_SIZE), **inputs, y=y, final=final, states=states)
        ctx.save_for_backward(*inputs.values(), final, states)
        ctx.set_materialize_grads(False)  # nobody asks for the gradient of the final state in training
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        k, v, log_w, u, state, resets, final, states = ctx.saved_tensors
        dy, dfinal = (None if grad is None else grad.contiguous() for grad in grads)
        B, T, A = v.shape
        dk, dv = torch.empty_like(k), torch.empty_like(v)
        dlog_w, du = v.new_empty(2, B, chunk_count(T), A)
        dinitial = torch.empty_like(final) if ctx.needs_input_grad[4] else None
        call(
            "wkv4", "backward", (B, T, A // HEAD_SIZE), k=k, v=v, decay=log_w, u=u, initial=state,
            resets=resets, final=final, states=states, dy=torch.zeros_like(v) if dy is None else dy,
            dfinal=dfinal, dk=dk, dv=dv, dlog_w=dlog_w, du=du, dinitial=dinitial,
        )  # fmt: skip
        return dk, dv, dlog_w.sum((0, 1)), du.sum((0, 1)), dinitial, None


def wkv4_native(
    k: Tensor,
    v: Tensor,
    log_w: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same numbers by compiled code, token by token; fp32 inside, also for lower dtypes.

    float64, which the C file is not made for, goes through `wkv4_chunked`.

    Raises:
        NativeUnavailableError: the tensors are not on the CPU, or the C file cannot be compiled here.
    """
    require("wkv4", k)
    A = k.shape[-1]
    if not suits(k):
        return wkv4_chunked(k, v, log_w, u, state, resets)
    inputs = [fill_up(x, 1) for x in (k, v, log_w, u)]
    y, final = _Wkv4.apply(
        *inputs, None if state is None else fill_up(state, 1), None if resets is None else resets.contiguous()
    )
    return y[..., :A].to(v.dtype), final[..., :A]

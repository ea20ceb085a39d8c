"""LoRA: y = W x + (alpha / r) B A dropout(x), W frozen, A and B in fp32 (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.adapted import Adapted, Projection
from trainer.models.quantised import FrozenProduct, FrozenWeight, dense
from trainer.models.recompute import kept


class _LoraProduct(torch.autograd.Function):
    """x W^T + scale (x A^T) B^T without a gradient for W; keeps x and x A^T, not the product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: FrozenWeight, A: Tensor, B: Tensor, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        A16, B16 = A.to(x.dtype), B.to(x.dtype)
        xa = flat @ A16.t()
        y = kept(lambda: (flat @ dense(W, x.dtype).t()).addmm_(xa, B16.t(), alpha=scale))
        ctx.save_for_backward(flat, xa, A, B)
        ctx.weight, ctx.scale, ctx.shape = W, scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        flat, xa, A, B = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dxa = (dy @ B.to(dy.dtype)).mul_(ctx.scale)
        dA = (dxa.t() @ flat).to(A.dtype)
        dB = (xa.t() @ dy).mul_(ctx.scale).t().to(B.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ dense(ctx.weight, dy.dtype)).addmm_(dxa, A.to(dy.dtype)).view(ctx.shape)
        return dx, None, dA, dB, None


class LoraLinear(Adapted):
    """A frozen projection with a low-rank update; its leaves are `lora_A` [r, in] and `lora_B` [out, r].

    Args:
        base: the projection whose weight [out, in] is taken over, not copied.
        r: rank. alpha: the update's scale is alpha / r. dropout: on the input of A, in training.
    """

    def __init__(self, base: Projection, r: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__(base)
        d_out, d_in = self.weight.shape
        self.lora_A = self.new_leaf(r, d_in)
        self.lora_B = self.new_leaf(d_out, r)
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B)
        self.alpha, self.scale, self.dropout = alpha, alpha / r, dropout

    def forward(self, x: Tensor) -> Tensor:
        if self.dropout and self.training:
            low = F.linear(F.dropout(x, self.dropout), self.lora_A.to(x.dtype))
            return FrozenProduct.apply(x, self.weight) + self.scale * F.linear(low, self.lora_B.to(x.dtype))
        return _LoraProduct.apply(x, self.weight, self.lora_A, self.lora_B, self.scale)

    @staticmethod
    def merged(W: Tensor, first: int, leaves: Mapping[str, Tensor], alpha: float) -> Tensor:
        A, B = leaves["lora_A"], leaves["lora_B"]
        return torch.addmm(W, B[first : first + len(W)], A, alpha=alpha / len(A))

"""MiSS (also DiSHA, Bone): a small matrix added to every block of r inputs (Kang and Yin, arXiv 2409.15371).

y = W x + Dᵀ Σ_b x_b, with x cut into blocks of r, the last one filled up with zeros: W[:, block b] += Dᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.adapted import Adapted, Projection
from trainer.models.quantised import FrozenWeight, dense
from trainer.models.recompute import kept


class _MissProduct(torch.autograd.Function):
    """x W^T + fold(x) D without a gradient for W; keeps the r sums of x, not x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: FrozenWeight, D: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        folded = F.pad(flat, (0, -flat.shape[1] % len(D))).unflatten(1, (-1, len(D))).sum(1)
        y = kept(lambda: (flat @ dense(W, x.dtype).t()).addmm_(folded, D.to(x.dtype)))
        ctx.save_for_backward(folded, D)
        ctx.weight, ctx.shape = W, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor]:
        folded, D = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dD = (folded.t() @ dy).to(D.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ dense(ctx.weight, dy.dtype)).add_(_tiled(dy @ D.to(dy.dtype).t(), ctx.shape[-1]))
            dx = dx.view(ctx.shape)
        return dx, None, dD


def _tiled(x: Tensor, columns: int) -> Tensor:
    """[n, r] side by side until it is [n, columns]."""
    return x.repeat(1, -(-columns // x.shape[1]))[:, :columns]


class MissLinear(Adapted):
    """A frozen projection with the leaf `disha` [r, out], which starts at zero and is not scaled."""

    def __init__(self, base: Projection, r: int, alpha: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__(base)
        self.disha = self.new_leaf(r, self.weight.shape[0])
        nn.init.zeros_(self.disha)

    def forward(self, x: Tensor) -> Tensor:
        return _MissProduct.apply(x, self.weight, self.disha)

    @staticmethod
    def merged(W: Tensor, first: int, leaves: Mapping[str, Tensor], alpha: float) -> Tensor:
        return W + _tiled(leaves["disha"][:, first : first + len(W)].t(), W.shape[1])

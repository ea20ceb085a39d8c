"""Head and cross-entropy in one operation, in tiles: no [B, T, V] tensor ever exists.

The loss and its gradient come from the same pass, so a frozen head costs two products instead of three,
and rows without a target cost nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORE = -100
ROWS = 512
VOCAB_TILE = 4096
TRAINED_HEAD_BYTES = 64 << 20


class _HeadCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, l2wrap: float) -> Tensor:
        rows = (targets >= 0).nonzero().squeeze(1)
        h, y = hidden.index_select(0, rows), targets.index_select(0, rows)
        accumulate = torch.promote_types(h.dtype, torch.float32)
        dh = torch.zeros(h.shape, dtype=accumulate, device=h.device)
        dw = torch.zeros(weight.shape, dtype=accumulate, device=h.device) if ctx.needs_input_grad[1] else None
        loss = torch.zeros((), dtype=torch.float64, device=h.device)
        step = ROWS if dw is None else max(16, TRAINED_HEAD_BYTES // (4 * weight.shape[0]))
        for start in range(0, h.shape[0], step):
            part = slice(start, start + step)
            if dw is None:
                loss += _frozen_rows(h[part], weight, y[part], dh[part], l2wrap).double()
            else:
                loss += _trained_rows(h[part], weight, y[part], dh[part], dw, l2wrap).double()
        dhidden = torch.zeros_like(hidden).index_copy_(0, rows, dh.to(hidden.dtype))
        ctx.save_for_backward(dhidden, dw)
        return loss.to(accumulate)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        dhidden, dw = ctx.saved_tensors
        return dhidden * grads[0].to(dhidden.dtype), None if dw is None else dw * grads[0], None, None


def _frozen_rows(h: Tensor, weight: Tensor, y: Tensor, dh: Tensor, l2wrap: float) -> Tensor:
    """Loss sum of some rows, adding d loss / d h to `dh`; one pass over vocabulary tiles.

    The softmax's maximum and sum are carried from tile to tile and what is summed so far is rescaled when
    the maximum grows, so each tile's product is computed once and thrown away.
    """
    top = torch.full((h.shape[0],), -torch.inf, dtype=dh.dtype, device=h.device)
    total, best = torch.zeros_like(top), torch.zeros_like(y)
    for start in range(0, weight.shape[0], VOCAB_TILE):
        w = weight[start : start + VOCAB_TILE].to(h.dtype)
        logits = (h @ w.t()).to(dh.dtype)
        if l2wrap:
            largest, at = logits.max(1)
            best = torch.where(largest > top, at + start, best)
        else:
            largest = logits.amax(1)  # several times as fast
        new_top = torch.maximum(top, largest)
        rescale = (top - new_top).exp()
        p = logits.sub_(new_top[:, None]).exp_()
        total.mul_(rescale).add_(p.sum(1))
        dh.mul_(rescale[:, None]).add_((p.to(h.dtype) @ w).to(dh.dtype))
        top = new_top
    w_target = weight.index_select(0, y).to(dh.dtype)
    target_logits = (h.to(dh.dtype) * w_target).sum(1)
    dh.div_(total[:, None]).sub_(w_target)
    if l2wrap:
        dh.addcmul_(weight.index_select(0, best).to(dh.dtype), top[:, None], value=l2wrap)
    return (total.log() + top - target_logits).sum()


def _trained_rows(h: Tensor, weight: Tensor, y: Tensor, dh: Tensor, dw: Tensor, l2wrap: float) -> Tensor:
    """As `_frozen_rows`, also adding d loss / d weight to `dw`; the rows' whole logits exist for a moment."""
    w = weight.to(h.dtype)
    logits = (h @ w.t()).to(dh.dtype)
    rows = torch.arange(len(y), device=h.device)
    target_logits = logits[rows, y]
    top, best = logits.max(1)
    p = logits.sub_(top[:, None]).exp_()
    total = p.sum(1)
    loss = (total.log() + top - target_logits).sum()
    p.div_(total[:, None])
    p[rows, y] -= 1
    p[rows, best] += l2wrap * top
    dh.add_((p.to(h.dtype) @ w).to(dh.dtype))
    dw.addmm_(p.t(), h.to(dw.dtype))
    return loss


def head_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, l2wrap: float = 0.0) -> Tensor:
    """Sum of the cross-entropies of hidden @ weight^T against the targets.

    Args:
        hidden: [M, C]. weight: [V, C]; gets a gradient only where it asks for one.
        targets: int64 [M]; rows with a negative target (`IGNORE`) are skipped.
        l2wrap: the gradient, but not the result, is that of the loss + l2wrap / 2 · (largest logit)² of each
            counted row: RWKV-LM's L2Wrap, which keeps logits from drifting. Being a part of each row's
            gradient, it is divided and accumulated as that is.

    Returns:
        Scalar sum in fp32 (float64 for float64 input); divide by the number of counted targets.
    """
    return _HeadCrossEntropy.apply(hidden, weight, targets, l2wrap)


def summed_loss(targets: Tensor, hidden: Tensor, weight: Tensor, l2wrap: float = 0.0) -> Tensor:
    """The cross-entropies of hidden [B, T, C] against targets [B, T], summed."""
    return head_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), l2wrap)

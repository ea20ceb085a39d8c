"""Bat: MiSS that also multiplies (Kang and Yin, arXiv 2409.15371): W_ab += W_ab D + D for every r x r block.

D belongs to the block's inputs (b) in RWKV-PEFT and to its outputs (a) in Hugging Face's peft, so there are
two leaves: `bat_in` [in/r, r, r] and `bat_out` [out/r, r, r]. Other tools' go on; we begin none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.adapters.adapted import Adapted, Projection
from trainer.models.quantised import dense


class _BatLinear(Adapted):
    leaf: str

    def __init__(self, base: Projection, r: int, alpha: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__(base)
        d_out, d_in = self.weight.shape
        D = self.new_leaf((d_in if self.leaf == "bat_in" else d_out) // r, r, r)
        self.register_parameter(self.leaf, D)
        nn.init.zeros_(D)

    def forward(self, x: Tensor) -> Tensor:
        D = self.get_parameter(self.leaf)
        return F.linear(x, self.merged(dense(self.weight, D.dtype), 0, {self.leaf: D}, 0.0).to(x.dtype))


class BatInLinear(_BatLinear):
    """A frozen projection with the leaf `bat_in` [in/r, r, r]."""

    leaf = "bat_in"

    @staticmethod
    def merged(W: Tensor, first: int, leaves: Mapping[str, Tensor], alpha: float) -> Tensor:
        D = leaves["bat_in"]
        r = D.shape[-1]
        rows = torch.arange(first, first + len(W), device=W.device)
        change = torch.einsum("nbi,bij->nbj", W.view(len(W), -1, r), D) + D[:, rows % r].transpose(0, 1)
        return W + change.reshape(W.shape)


class BatOutLinear(_BatLinear):
    """A frozen projection with the leaf `bat_out` [out/r, r, r]."""

    leaf = "bat_out"

    @staticmethod
    def merged(W: Tensor, first: int, leaves: Mapping[str, Tensor], alpha: float) -> Tensor:
        D = leaves["bat_out"]
        r = D.shape[-1]
        rows = torch.arange(first, first + len(W), device=W.device)
        blocks = W.view(len(W), -1, r)
        change = torch.bmm(blocks, D[rows // r]) + D[rows // r, rows % r].unsqueeze(1)
        return W + change.reshape(W.shape)

"""DoRA: W' = m (W + s B A) / ‖W + s B A‖, row by row, with m trained too (Liu et al., arXiv 2402.09353)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.adapters.adapted import Projection
from trainer.adapters.lora import LoraLinear
from trainer.models.quantised import dense

_TINY = 1e-12


class DoraLinear(LoraLinear):
    """LoRA with a trained magnitude of each output, the leaf `lora_M` [out].

    The norm counts as a constant in the backward pass, as the paper proposes.
    """

    squares: Tensor

    def __init__(self, base: Projection, r: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__(base, r, alpha, dropout)
        self.lora_M = self.new_leaf(self.weight.shape[0])
        squares = dense(self.weight, self.lora_M.dtype).square().sum(1)
        self.register_buffer("squares", squares, persistent=False)
        self.lora_M.data = squares.sqrt()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (self.lora_M / self.norms()).to(x.dtype)

    @torch.no_grad()
    def norms(self) -> Tensor:
        """‖W + s B A‖ of each row, [out], without forming B A: the square is one of W, W A and A A."""
        A, B = self.lora_A, self.lora_B
        WA = dense(self.weight, A.dtype) @ A.t()
        cross = (B * (2 * WA + self.scale * (B @ (A @ A.t())))).sum(1)
        return (self.squares + self.scale * cross).clamp_min(0).sqrt().clamp_min(_TINY)

    @staticmethod
    def merged(W: Tensor, first: int, leaves: Mapping[str, Tensor], alpha: float) -> Tensor:
        V = LoraLinear.merged(W, first, leaves, alpha)
        M = leaves["lora_M"][first : first + len(W)]
        return V * (M / V.norm(dim=1).clamp_min(_TINY)).unsqueeze(1)

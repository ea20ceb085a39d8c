"""PiSSA: what is trained are the principal components of W (Meng et al., arXiv 2404.02948).

With W ≈ B0 A0 from the r largest singular values, y = (W - B0 A0) x + B A x, and B A starts as B0 A0. Here
W stays whole, exact and not copied, and B0 A0 is taken from it as a product of its own. In a file that is
the plain LoRA [B, -B0] [A; A0] of rank 2r and alpha 2r, so any tool that merges LoRA merges it onto the
original base.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.adapters.adapted import Projection
from trainer.adapters.lora import LoraLinear, _LoraProduct
from trainer.models.quantised import dense

# Of the randomised SVD: passes over W as in the paper's code, and more directions than are kept (Halko et
# al., arXiv 0909.4061).
_PASSES, _SPARE = 4, 16


class PissaLinear(LoraLinear):
    """A frozen projection whose r principal components are trained, in the leaves of LoRA.

    Args:
        base: the projection.
        r: number of components; their update is not scaled.
    """

    initial_a: Tensor
    initial_b: Tensor

    def __init__(self, base: Projection, r: int, alpha: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__(base, r, 2.0 * r)
        A, B = _principal(dense(self.weight, self.lora_A.dtype), r)
        self.register_buffer("initial_a", A, persistent=False)
        self.register_buffer("initial_b", B, persistent=False)
        self.lora_A.data, self.lora_B.data = A.clone(), B.clone()

    def forward(self, x: Tensor) -> Tensor:
        leaves = self._joined(self.lora_A, self.lora_B)
        return _LoraProduct.apply(x, self.weight, leaves["lora_A"], leaves["lora_B"], 1.0)

    def leaves(self) -> dict[str, Tensor]:
        return self._joined(self.lora_A.detach(), self.lora_B.detach())

    @torch.no_grad()
    def load(self, leaves: Mapping[str, Tensor]) -> None:
        halves = leaves["lora_A"].chunk(2, 0), leaves["lora_B"].chunk(2, 1)
        super().load({"lora_A": halves[0][0], "lora_B": halves[1][0]})
        self.initial_a = halves[0][1].to(self.lora_A, copy=True)
        self.initial_b = -halves[1][1].to(self.lora_B)

    def _joined(self, A: Tensor, B: Tensor) -> dict[str, Tensor]:
        return {"lora_A": torch.cat((A, self.initial_a)), "lora_B": torch.cat((B, -self.initial_b), 1)}


def _principal(W: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """A [r, in] = √S Vᵀ and B [out, r] = U √S of the r largest singular values; zero beyond the rank."""
    U, S, V = (x[..., :r] for x in torch.svd_lowrank(W, q=min(r + _SPARE, *W.shape), niter=_PASSES))
    root, missing = S.sqrt(), r - len(S)
    A, B = F.pad(root.unsqueeze(1) * V.t(), (0, 0, 0, missing)), F.pad(U * root, (0, missing))
    return A.contiguous(), B.contiguous()

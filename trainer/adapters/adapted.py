"""What every kind of adapter on a projection is: a module for training, and a rule for merging."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.models.quantised import QuantisedLinear, QuantisedWeight
from trainer.models.skeleton import Linear

Projection = Linear | QuantisedLinear


class Adapted(nn.Module):
    """A frozen projection with trained tensors beside it, its leaves (`trainer.adapters.leaves`).

    Attributes:
        weight: [out, in], frozen; the base's own, not a copy.
        alpha: the update's scale is alpha / r, r that of the file; None for kinds that are not scaled.
    """

    weight: Tensor | QuantisedWeight
    alpha: float | None = None

    def __init__(self, base: Projection | Adapted) -> None:
        super().__init__()
        self.weight = base.weight.requires_grad_(False)

    def new_leaf(self, *shape: int) -> nn.Parameter:
        """An uninitialised leaf in fp32 (float64 over a float64 base), where the weight is."""
        like = self.weight.largest if isinstance(self.weight, QuantisedWeight) else self.weight
        dtype = torch.promote_types(like.dtype, torch.float32)
        return nn.Parameter(torch.empty(shape, device=like.device, dtype=dtype))

    def leaves(self) -> dict[str, Tensor]:
        """What an adapter file holds of this module: leaf -> tensor, on the module's device."""
        return {name: p.detach() for name, p in self.named_parameters(recurse=False) if name != "weight"}

    @torch.no_grad()
    def load(self, leaves: Mapping[str, Tensor]) -> None:
        """Take over what `leaves` gave; the rank may be another one than the module's."""
        for name, tensor in leaves.items():
            param = self.get_parameter(name)
            param.data = tensor.to(device=param.device, dtype=param.dtype, copy=True)

    @staticmethod
    def merged(W: Tensor, first: int, leaves: Mapping[str, Tensor], alpha: float) -> Tensor:
        """Rows of the weight that training arrived at.

        Args:
            W: fp32 [n, in], the base's rows `first` to `first + n`.
            leaves: the file's, whole, in fp32. alpha: as in the file's metadata; 0 where nothing is scaled.

        Returns:
            fp32 [n, in].
        """
        raise NotImplementedError

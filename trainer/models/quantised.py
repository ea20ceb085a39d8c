"""Frozen projections in 4 or 8 bits: block-wise absmax codes, their scales quantised once more (QLoRA).

A row is cut into blocks of 64. A block's codes are relative to its largest absolute value, its absmax; the
absmax is an 8-bit share of the row's largest one, which stays in fp32. Rows do not depend on each other, so
a matrix can be quantised, and a merge can repeat it, a few rows at a time. With 2048 inputs that is 4.14 or
8.14 bits a weight. The 16 levels of NF4 are the quantiles of a normal distribution (Dettmers et al., arXiv
2305.14314); packed as in the package `bitsandbytes`, whose kernel decodes them where it can.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.recompute import kept

Quant = Literal["nf4", "int8"]
BLOCK = 64
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
    1.0,
)  # fmt: skip
_INT8_MAX, _SCALE_MAX = 127, 255


class QuantisedWeight(nn.Module):
    """A matrix [out, in] as codes; a module, so that it follows its model to a device.

    Args:
        weight: [out, in], of any float type; quantised from its fp32 values.
        quant: "nf4" or "int8".
    """

    codes: Tensor
    shares: Tensor
    largest: Tensor

    def __init__(self, weight: Tensor, quant: Quant) -> None:
        super().__init__()
        self.quant, self.shape = quant, weight.shape
        blocks = F.pad(weight.detach().float(), (0, -weight.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
        absmax = blocks.abs().amax(2)
        # Rounded up, so that no weight lies beyond the absmax that it is decoded with.
        largest = absmax.amax(1, keepdim=True)
        shares = (absmax / largest.clamp_min(torch.finfo(torch.float32).tiny) * _SCALE_MAX).ceil()
        self.register_buffer("largest", largest, persistent=False)
        self.register_buffer("shares", shares.to(torch.uint8), persistent=False)
        relative = blocks / self.absmax().unsqueeze(2).clamp_min(torch.finfo(torch.float32).tiny)
        codes = _nf4_codes(relative) if quant == "nf4" else (relative * _INT8_MAX).round().to(torch.int8)
        self.register_buffer("codes", codes.flatten(1), persistent=False)

    def absmax(self) -> Tensor:
        """fp32 [out, blocks], as it is decoded."""
        return self.shares * (self.largest / _SCALE_MAX)

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The decoded matrix [out, in]."""
        if self.quant == "nf4" and (kernels := _bitsandbytes(self.codes.device.type)) is not None:
            return self._decoded_by(kernels, dtype)
        if self.quant == "nf4":
            pairs = torch.index_select(_nf4_pairs(self.codes.device), 0, self.codes.flatten().int())
            values, scale = pairs.view(torch.float32).view(self.shape[0], -1), self.absmax()
        else:
            values, scale = self.codes.float(), self.absmax() / _INT8_MAX
        values = values.unflatten(1, (-1, BLOCK)).mul_(scale.unsqueeze(2)).flatten(1)
        return values[:, : self.shape[1]].to(dtype)

    def _decoded_by(self, kernels: Any, dtype: torch.dtype) -> Tensor:
        rows, columns = self.shape[0], 2 * self.codes.shape[1]
        state = kernels.QuantState(
            absmax=self.absmax().flatten(), shape=torch.Size((rows, columns)), dtype=dtype, blocksize=BLOCK,
            quant_type="nf4", code=torch.tensor(NF4_LEVELS, device=self.codes.device),
        )  # fmt: skip
        return kernels.dequantize_4bit(self.codes.view(-1, 1), state)[:, : self.shape[1]]


def _nf4_codes(relative: Tensor) -> Tensor:
    """Two codes a byte, the first in the high half: uint8 [out, blocks, 32] of [out, blocks, 64]."""
    levels = torch.tensor(NF4_LEVELS, device=relative.device)
    codes = torch.bucketize(relative, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
    return codes[..., ::2] << 4 | codes[..., 1::2]


@lru_cache
def _nf4_pairs(device: torch.device) -> Tensor:
    """The two fp32 values of each byte, looked up ten times faster as the one int64 that they make: [256]."""
    levels = torch.tensor(NF4_LEVELS, device=device)
    byte = torch.arange(256, device=device)
    return torch.stack((levels[byte >> 4], levels[byte & 15]), 1).view(torch.int64).flatten()


@lru_cache
def _bitsandbytes(device: str) -> ModuleType | None:
    """Its functions, where it is installed and decodes faster than plain torch; on a CPU it does not."""
    if device != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
        return None
    from bitsandbytes import functional  # type: ignore[import-not-found]

    return functional


FrozenWeight = Tensor | QuantisedWeight


def dense(weight: FrozenWeight, dtype: torch.dtype) -> Tensor:
    """A frozen matrix as a plain tensor."""
    return weight.dense(dtype) if isinstance(weight, QuantisedWeight) else weight.to(dtype)


class FrozenProduct(torch.autograd.Function):
    """x W^T without a gradient for W; a quantised W is decoded again in the backward pass, not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: FrozenWeight) -> Tensor:
        ctx.weight = weight
        return kept(lambda: F.linear(x, dense(weight, x.dtype)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ dense(ctx.weight, grads[0].dtype), None


class QuantisedLinear(nn.Module):
    """A frozen projection without bias."""

    def __init__(self, weight: QuantisedWeight) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return FrozenProduct.apply(x, self.weight)

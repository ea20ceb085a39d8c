"""LoRA: y = W x + (alpha / r) B A dropout(x), W frozen, A and B in fp32 (Hu et al., arXiv 2106.09685)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import InputError
from trainer.models.skeleton import RWKV, Linear

# The projections that each part adapts, where a generation has them; the other parts are trained in full.
PROJECTIONS = {
    "att": ("receptance", "key", "value", "output", "gate"),
    "ffn": ("key", "value", "receptance"),
}
_FULL_PARTS = {
    "time": re.compile(
        r"blocks\.\d+\.(att\.(x_[rwkvag]|[wav]0|k_k|k_a|r_k)|ffn\.x_k"  # 7
        r"|(att|ffn)\.time_(mix_[kvrg]|maa_[xwkvrg]|decay|first|faaaa))$"  # 4, 5 and 6
    ),
    "time_lora": re.compile(r"blocks\.\d+\.att\.([wavg]|time_maa_w|time_decay_w)[12]$"),  # 6 and 7
    "ln": re.compile(r"blocks\.\d+\.(ln[012]|att\.ln_x)\.(weight|bias)$"),
    "emb": re.compile(r"emb\.weight$"),
    "head": re.compile(r"head\.weight$"),
}


class _LoraProduct(torch.autograd.Function):
    """x W^T + scale (x A^T) B^T without a gradient for W; keeps x and x A^T, not the product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        A16, B16 = A.to(x.dtype), B.to(x.dtype)
        xa = flat @ A16.t()
        y = (flat @ W.t()).addmm_(xa, B16.t(), alpha=scale)
        ctx.save_for_backward(flat, xa, W, A, B)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        flat, xa, W, A, B = ctx.saved_tensors
        dy = grads[0].reshape(-1, grads[0].shape[-1])
        dxa = (dy @ B.to(dy.dtype)).mul_(ctx.scale)
        dA = (dxa.t() @ flat).to(A.dtype)
        dB = (xa.t() @ dy).mul_(ctx.scale).t().to(B.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ W).addmm_(dxa, A.to(dy.dtype)).view(ctx.shape)
        return dx, None, dA, dB, None


class LoraLinear(Linear):
    """A frozen projection with a low-rank update; its tensors are `weight`, `lora_A`, `lora_B`.

    Args:
        base: the projection whose weight [out, in] is taken over, not copied.
        r: rank. alpha: the update's scale is alpha / r. dropout: on the input of A, in training.
    """

    def __init__(self, base: Linear, r: int, alpha: float, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.weight = base.weight.requires_grad_(False)
        d_out, d_in = self.weight.shape
        device = self.weight.device
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        self.lora_A = nn.Parameter(torch.empty(r, d_in, device=device, dtype=dtype))
        self.lora_B = nn.Parameter(torch.zeros(d_out, r, device=device, dtype=dtype))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.alpha, self.scale, self.dropout = alpha, alpha / r, dropout

    def forward(self, x: Tensor) -> Tensor:
        W = self.weight.to(x.dtype)
        if self.dropout and self.training:
            low = F.linear(F.dropout(x, self.dropout), self.lora_A.to(x.dtype))
            return F.linear(x, W) + self.scale * F.linear(low, self.lora_B.to(x.dtype))
        return _LoraProduct.apply(x, W, self.lora_A, self.lora_B, self.scale)


def _replace(model: RWKV, module: str, r: int, alpha: float, dropout: float) -> LoraLinear:
    parent_name, _, leaf = module.rpartition(".")
    parent = model.get_submodule(parent_name)
    lora = LoraLinear(getattr(parent, leaf), r, alpha, dropout)
    setattr(parent, leaf, lora)
    return lora


def attach_lora(model: RWKV, *, r: int, alpha: float, dropout: float, parts: Iterable[str]) -> None:
    """Freeze the model, put LoRA on the projections of the parts, and free the other parts' tensors.

    Args:
        parts: of `att`, `ffn` (LoRA), `time` (mixing, decay and bonus vectors), `time_lora` (the low-rank
            matrices of 6 and 7), `ln` (ln0, ln1, ln2, ln_x; as in RWKV-Runner not ln_out), `emb`, `head`
            (trained in full).
    """
    parts = tuple(parts)
    model.requires_grad_(False)
    for layer in range(len(model.blocks)):
        for part, leaves in PROJECTIONS.items():
            for leaf in leaves if part in parts else ():
                if hasattr(model.get_submodule(f"blocks.{layer}.{part}"), leaf):
                    _replace(model, f"blocks.{layer}.{part}.{leaf}", r, alpha, dropout)
    patterns = [pattern for part, pattern in _FULL_PARTS.items() if part in parts]
    for name, param in model.named_parameters():
        if any(pattern.match(name) for pattern in patterns):
            train_in_full(param)


def train_in_full(param: nn.Parameter) -> None:
    """Make a frozen tensor trainable, as an fp32 master where the base is 16 bit."""
    param.data = param.data.to(torch.promote_types(param.dtype, torch.float32))
    param.requires_grad_(True)


def attach_full(model: RWKV) -> None:
    """Train every tensor of the model."""
    for param in model.parameters():
        train_in_full(param)


def adapter_tensors(model: RWKV) -> dict[str, Tensor]:
    """What an adapter file holds: every trained tensor under its own name, on the CPU."""
    return {
        name: param.detach().to("cpu", copy=True).contiguous()
        for name, param in model.named_parameters()
        if param.requires_grad
    }


class AdapterLike(Protocol):
    """What `trainer.adapters.files.read_adapter` returns."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...
    @property
    def meta(self) -> AdapterMeta | None: ...
    @property
    def path(self) -> Path: ...


@torch.no_grad()
def attach_adapter(model: RWKV, adapter: AdapterLike, *, alpha: float | None = None) -> None:
    """Put an adapter on a model; modules without LoRA get it with the adapter's own r.

    Args:
        adapter: already checked against the base (`trainer.adapters.files.check_fits`).
        alpha: for files without metadata; the metadata's alpha is used where there is one.

    Raises:
        InputError: `adapter_alpha_unknown`.
    """
    if adapter.meta is not None and adapter.meta.alpha is not None:
        alpha = adapter.meta.alpha
    for name, tensor in adapter.tensors.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "lora_A" and not isinstance(model.get_submodule(module), LoraLinear):
            if alpha is None:
                raise InputError("adapter_alpha_unknown", path=str(adapter.path), r=tensor.shape[0])
            _replace(model, module, tensor.shape[0], alpha, 0.0)
    for name, tensor in adapter.tensors.items():
        param = model.get_parameter(name)
        param.data = tensor.view(param.shape).to(device=param.device, dtype=_kept_dtype(param, tensor))


def _kept_dtype(param: nn.Parameter, tensor: Tensor) -> torch.dtype:
    # A trained vector in fp32 over a bf16 base keeps its digits.
    return torch.promote_types(param.dtype, torch.float32) if tensor.dtype == torch.float32 else param.dtype

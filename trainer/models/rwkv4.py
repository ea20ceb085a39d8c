"""RWKV-4: its time mixing and channel mixing.

Equations: Peng et al., arXiv 2305.13048, as BlinkDL's reference code computes them. Shapes as in
`trainer.models.skeleton`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.kernels.dispatch import choose
from trainer.models.layouts import ModelSpec
from trainer.models.skeleton import RWKV, LayerState, Linear, at_least_fp32, own_parameters, token_shift


def mixed(x: Tensor, before: Tensor, share: Tensor) -> Tensor:
    """A share of each token and the rest of the one before it."""
    return before + (x - before) * share


class TimeMix(nn.Module):
    """Time mixing ("att")."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        C, A = spec.n_embd, spec.dim_att
        self.time_decay = nn.Parameter(torch.empty(A))
        self.time_first = nn.Parameter(torch.empty(A))
        for name in "kvr":
            setattr(self, f"time_mix_{name}", nn.Parameter(torch.empty(1, 1, C)))
        self.key, self.value, self.receptance = (Linear(C, A) for _ in range(3))
        self.output = Linear(A, C)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """x [B, T, C] -> output [B, T, C], v_first as it came, final wkv state [B, 3, A]."""
        p = own_parameters(self, x.dtype)
        before = token_shift(x, None if state is None else state.att_x, resets)
        xk, xv, xr = (mixed(x, before, p[f"time_mix_{name}"]) for name in "kvr")
        _, wkv4 = choose("wkv4", x.device.type, x.dtype)
        y, wkv = wkv4(
            self.key(xk), self.value(xv), -at_least_fp32(self.time_decay).exp(),
            at_least_fp32(self.time_first), None if state is None else state.wkv, resets,
        )  # fmt: skip
        return self.output(torch.sigmoid(self.receptance(xr)) * y), v_first, wkv


class ChannelMix(nn.Module):
    """Channel mixing ("ffn") of RWKV-4 and RWKV-5."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        C = spec.n_embd
        self.time_mix_k = nn.Parameter(torch.empty(1, 1, C))
        self.time_mix_r = nn.Parameter(torch.empty(1, 1, C))
        self.key, self.receptance = Linear(C, spec.dim_ffn), Linear(C, C)
        self.value = Linear(spec.dim_ffn, C)

    def forward(self, x: Tensor, last: Tensor | None, resets: Tensor | None) -> Tensor:
        before = token_shift(x, last, resets)
        xk = mixed(x, before, self.time_mix_k.to(x.dtype))
        xr = mixed(x, before, self.time_mix_r.to(x.dtype))
        return torch.sigmoid(self.receptance(xr)) * self.value(torch.relu(self.key(xk)) ** 2)


class RWKV4(RWKV):
    """The model; see `RWKV`."""

    operation = "wkv4"
    time_mix = TimeMix
    channel_mix = ChannelMix

"""RWKV-6 (x060, "Finch"): its time mixing and channel mixing.

Equations: Peng et al., arXiv 2404.05892, as BlinkDL's reference code computes them. Shapes as in
`trainer.models.skeleton`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.layouts import ModelSpec
from trainer.models.skeleton import (
    RWKV,
    HeadTimeMix,
    LayerNorm,
    LayerState,
    Linear,
    at_least_fp32,
    own_parameters,
    token_shift,
)

# The slices of time_maa_w1 and time_maa_w2, in their order.
_MIXES = "wkvrg"


class TimeMix(HeadTimeMix):
    """Time mixing ("att")."""

    operation = "wkv56"
    state_is_kv = True

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        C, A = spec.n_embd, spec.dim_att
        mix, decay = spec.ranks["mix"], spec.ranks["decay"]
        self.n_head, self.head_size = spec.n_head, spec.head_size
        for name in ("x", *_MIXES):
            setattr(self, f"time_maa_{name}", nn.Parameter(torch.empty(1, 1, C)))
        self.time_maa_w1 = nn.Parameter(torch.empty(C, len(_MIXES) * mix))
        self.time_maa_w2 = nn.Parameter(torch.empty(len(_MIXES), mix, C))
        self.time_decay = nn.Parameter(torch.empty(1, 1, A))
        self.time_decay_w1 = nn.Parameter(torch.empty(C, decay))
        self.time_decay_w2 = nn.Parameter(torch.empty(decay, A))
        self.time_faaaa = nn.Parameter(torch.empty(self.n_head, self.head_size))
        self.receptance, self.key, self.value, self.gate = (Linear(C, A) for _ in range(4))
        self.output = Linear(A, C)
        self.ln_x = LayerNorm(A)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """x [B, T, C] -> output [B, T, C], v_first as it came, final wkv state [B, H, N, N]."""
        B, T, C = x.shape
        H, N = self.n_head, self.head_size
        p = own_parameters(self, x.dtype)
        dx = token_shift(x, None if state is None else state.att_x, resets) - x
        low = torch.tanh((x + dx * p["time_maa_x"]) @ p["time_maa_w1"]).view(B * T, len(_MIXES), -1)
        shifts = (low.transpose(0, 1) @ p["time_maa_w2"]).view(len(_MIXES), B, T, C)
        xw, xk, xv, xr, xg = (
            x + dx * (p[f"time_maa_{name}"] + shift) for name, shift in zip(_MIXES, shifts, strict=True)
        )
        # A log-decay is an exponential: rounded to 16 bit before it, it would be off by percents.
        low_w = torch.tanh(xw @ p["time_decay_w1"]) @ p["time_decay_w2"]
        log_w = -(at_least_fp32(self.time_decay) + at_least_fp32(low_w)).exp()
        r, k, v, log_w = (
            z.view(B, T, H, N) for z in (self.receptance(xr), self.key(xk), self.value(xv), log_w)
        )
        y, wkv = self.recur((r, log_w, k, v, at_least_fp32(self.time_faaaa)), state, resets)
        y = self.ln_x.per_head(y.flatten(2), H) * F.silu(self.gate(xg))
        return self.output(y), v_first, wkv


class ChannelMix(nn.Module):
    """Channel mixing ("ffn")."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        C = spec.n_embd
        self.time_maa_k = nn.Parameter(torch.empty(1, 1, C))
        self.time_maa_r = nn.Parameter(torch.empty(1, 1, C))
        self.key, self.receptance = Linear(C, spec.dim_ffn), Linear(C, C)
        self.value = Linear(spec.dim_ffn, C)

    def forward(self, x: Tensor, last: Tensor | None, resets: Tensor | None) -> Tensor:
        dx = token_shift(x, last, resets) - x
        xk = x + dx * self.time_maa_k.to(x.dtype)
        xr = x + dx * self.time_maa_r.to(x.dtype)
        return torch.sigmoid(self.receptance(xr)) * self.value(torch.relu(self.key(xk)) ** 2)


class RWKV6(RWKV):
    """The model; see `RWKV`."""

    operation = TimeMix.operation
    time_mix = TimeMix
    channel_mix = ChannelMix

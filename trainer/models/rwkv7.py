"""RWKV-7 (x070, "Goose"): its time mixing and channel mixing.

Equations: Peng et al., arXiv 2503.14456, as BlinkDL's reference code computes them. Shapes as in
`trainer.models.skeleton`.
"""

from __future__ import annotations

import math

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

# The decay of a channel is exp(-exp(-1/2) * sigmoid(w)): never below 0.5453.
LOG_DECAY_SCALE = -math.exp(-0.5)


class TimeMix(HeadTimeMix):
    """Time mixing ("att")."""

    operation = "wkv7"
    state_is_kv = False

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        C, N, ranks = spec.n_embd, spec.head_size, spec.ranks
        self.layer, self.head_size, self.n_head = layer, N, C // N
        for name in "rwkvag":
            setattr(self, f"x_{name}", nn.Parameter(torch.empty(1, 1, C)))
        gates = ["w", "a"] if layer == 0 and not spec.layer0_v else ["w", "a", "v"]
        for name in gates:
            setattr(self, f"{name}0", nn.Parameter(torch.empty(1, 1, C)))
        for name in [*gates, "g"]:
            setattr(self, f"{name}1", nn.Parameter(torch.empty(C, ranks[name])))
            setattr(self, f"{name}2", nn.Parameter(torch.empty(ranks[name], C)))
        self.k_k = nn.Parameter(torch.empty(1, 1, C))
        self.k_a = nn.Parameter(torch.empty(1, 1, C))
        self.r_k = nn.Parameter(torch.empty(self.n_head, N))
        self.receptance, self.key, self.value, self.output = (Linear(C, C) for _ in range(4))
        self.ln_x = LayerNorm(C)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, T, C] -> output [B, T, C], v_first, final wkv state [B, H, N, N]."""
        B, T, C = x.shape
        H, N = self.n_head, self.head_size
        p = own_parameters(self, x.dtype)
        dx = token_shift(x, None if state is None else state.att_x, resets) - x
        xr, xw, xk, xv, xa, xg = (torch.addcmul(x, dx, p[f"x_{name}"]) for name in "rwkvag")

        r, k = self.receptance(xr), self.key(xk)
        v: Tensor = self.value(xv)
        log_w = LOG_DECAY_SCALE * torch.sigmoid(at_least_fp32(p["w0"] + torch.tanh(xw @ p["w1"]) @ p["w2"]))
        if v_first is None:
            v_first = v
        else:
            v = torch.lerp(v, v_first, torch.sigmoid(p["v0"] + (xv @ p["v1"]) @ p["v2"]))
        a = torch.sigmoid(p["a0"] + (xa @ p["a1"]) @ p["a2"])
        g = torch.sigmoid(xg @ p["g1"]) @ p["g2"]
        kk = F.normalize(at_least_fp32((k * p["k_k"]).view(B, T, H, N)), dim=-1)
        k = torch.lerp(k, k * a, p["k_a"])

        def heads(z: Tensor) -> Tensor:
            return z.view(B, T, H, N)

        inputs = (heads(r), heads(log_w), heads(k), heads(v), -kk, kk * heads(a))
        y, wkv = self.recur(inputs, state, resets)
        y = self.ln_x.per_head(y.flatten(2), H)
        bonus = (heads(r) * heads(k) * p["r_k"]).sum(-1, keepdim=True) * heads(v)
        return self.output((y + bonus.view(B, T, C)) * g), v_first, wkv


class ChannelMix(nn.Module):
    """Channel mixing ("ffn")."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.x_k = nn.Parameter(torch.empty(1, 1, spec.n_embd))
        self.key = Linear(spec.n_embd, spec.dim_ffn)
        self.value = Linear(spec.dim_ffn, spec.n_embd)

    def forward(self, x: Tensor, last: Tensor | None, resets: Tensor | None) -> Tensor:
        k = torch.lerp(x, token_shift(x, last, resets), self.x_k.to(x.dtype))
        return self.value(torch.relu(self.key(k)).square())


class RWKV7(RWKV):
    """The model; see `RWKV`."""

    operation = TimeMix.operation
    time_mix = TimeMix
    channel_mix = ChannelMix

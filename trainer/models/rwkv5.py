"""RWKV-5 (5.0, 5.1 and 5.2, "Eagle"): its time mixing. Channel mixing is RWKV-4's.

Equations: Peng et al., arXiv 2404.05892, as BlinkDL's reference code computes them. Shapes as in
`trainer.models.skeleton`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.models.layouts import ModelSpec
from trainer.models.rwkv4 import ChannelMix, mixed
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


class TimeMix(HeadTimeMix):
    """Time mixing ("att"). 5.1 adds the gate; 5.2 has decay and bonus per channel instead of per head.

    The bonus is `time_faaaa`, or the exponential of `time_first` in the files that have that.
    """

    operation = "wkv56"
    state_is_kv = True

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        C, A = spec.n_embd, spec.dim_att
        self.n_head, self.head_size = spec.n_head, spec.head_size
        self.bonus_key = spec.bonus_key or "time_faaaa"
        self.mixes = "kvr" if spec.generation == "5.0" else "kvrg"
        per_head = (self.n_head, self.head_size) if spec.generation == "5.2" else (self.n_head,)
        for name in self.mixes:
            setattr(self, f"time_mix_{name}", nn.Parameter(torch.empty(1, 1, C)))
        self.time_decay = nn.Parameter(torch.empty(per_head))
        setattr(self, self.bonus_key, nn.Parameter(torch.empty(per_head)))
        self.receptance, self.key, self.value = (Linear(C, A) for _ in range(3))
        if "g" in self.mixes:
            self.gate = Linear(C, A)
        self.output = Linear(A, C)
        self.ln_x = LayerNorm(A)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """x [B, T, C] -> output [B, T, C], v_first as it came, final wkv state [B, H, N, N]."""
        B, T, _ = x.shape
        H, N = self.n_head, self.head_size
        p = own_parameters(self, x.dtype)
        before = token_shift(x, None if state is None else state.att_x, resets)
        xs = {name: mixed(x, before, p[f"time_mix_{name}"]) for name in self.mixes}
        r, k, v = (
            project(xs[name]).view(B, T, H, N)
            for project, name in ((self.receptance, "r"), (self.key, "k"), (self.value, "v"))
        )
        log_w = -at_least_fp32(self.time_decay).exp()
        u = at_least_fp32(self.get_parameter(self.bonus_key))
        if self.bonus_key == "time_first":
            u = u.exp()
        log_w, u = (z.view(H, -1).expand(H, N) for z in (log_w, u))
        if self.time_state is not None:
            log_w = log_w.expand(B, T, H, N)
        y, wkv = self.recur((r, log_w, k, v, u), state, resets)
        y = self.ln_x.per_head(y.flatten(2), H)
        if "g" in self.mixes:
            y = y * F.silu(self.gate(xs["g"]))
        return self.output(y), v_first, wkv


class RWKV5(RWKV):
    """The model; see `RWKV`."""

    operation = TimeMix.operation
    time_mix = TimeMix
    channel_mix = ChannelMix

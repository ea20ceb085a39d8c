"""RWKV-7 (x070, "Goose"): the forward pass, with parameters named exactly as in the .pth.

Equations: Peng et al., arXiv 2503.14456, as BlinkDL's reference code computes them. Shapes: B batch, T
tokens, C n_embd, H heads, N head size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.kernels.chunks import CHUNK
from trainer.kernels.dispatch import choose

# The decay of a channel is exp(-exp(-1/2) * sigmoid(w)): never below 0.5453.
LOG_DECAY_SCALE = -math.exp(-0.5)
LN_EPS = 1e-5
GROUP_NORM_EPS = 64e-5


class Spec(Protocol):
    """What the model needs to know of a file; `trainer.models.spec.ModelSpec` has it."""

    @property
    def n_layer(self) -> int: ...
    @property
    def n_embd(self) -> int: ...
    @property
    def dim_ffn(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def head_size(self) -> int: ...
    @property
    def ranks(self) -> dict[str, int]: ...
    @property
    def layer0_v(self) -> bool: ...


@dataclass(slots=True)
class LayerState:
    """What a layer carries to the next token.

    Attributes:
        att_x: [B, C], the last LN1 output. ffn_x: [B, C], the last LN2 output.
        wkv: [B, H, N, N] (v, k), fp32.
    """

    att_x: Tensor
    wkv: Tensor
    ffn_x: Tensor


State = list[LayerState]


class Linear(nn.Module):
    """A projection without bias: y = x W^T."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Embedding(nn.Module):
    """Token ids to rows of `weight` [V, C]."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)


class LayerNorm(nn.Module):
    """LayerNorm whose parameters may be fp32 masters over 16-bit activations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.bias.to(x.dtype), LN_EPS)


def token_shift(x: Tensor, last: Tensor | None, resets: Tensor | None) -> Tensor:
    """x one token later; before the first token comes `last` [B, C] (or zero), zero at document starts."""
    first = torch.zeros_like(x[:, :1]) if last is None else last.to(x.dtype).unsqueeze(1)
    shifted = torch.cat((first, x[:, :-1]), 1)
    if resets is None:
        return shifted
    return shifted.masked_fill(_token_mask(resets, x.shape[1]), 0.0)


def _token_mask(resets: Tensor, T: int) -> Tensor:
    starts = torch.zeros(resets.shape[0], T, dtype=torch.bool, device=resets.device)
    starts[:, ::CHUNK] = resets
    return starts.unsqueeze(-1)


class TimeMix(nn.Module):
    """Time mixing ("att")."""

    def __init__(self, spec: Spec, layer: int) -> None:
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
        p = {name: param.to(x.dtype) for name, param in self.named_parameters(recurse=False)}
        dx = token_shift(x, None if state is None else state.att_x, resets) - x
        xr, xw, xk, xv, xa, xg = (x + dx * p[f"x_{name}"] for name in "rwkvag")

        r, k = self.receptance(xr), self.key(xk)
        v: Tensor = self.value(xv)
        log_w = LOG_DECAY_SCALE * torch.sigmoid(_fp32(p["w0"] + torch.tanh(xw @ p["w1"]) @ p["w2"]))
        if v_first is None:
            v_first = v
        else:
            v = v + (v_first - v) * torch.sigmoid(p["v0"] + (xv @ p["v1"]) @ p["v2"])
        a = torch.sigmoid(p["a0"] + (xa @ p["a1"]) @ p["a2"])
        g = torch.sigmoid(xg @ p["g1"]) @ p["g2"]
        kk = F.normalize(_fp32((k * p["k_k"]).view(B, T, H, N)), dim=-1)
        k = k * (1 + (a - 1) * p["k_a"])

        def heads(z: Tensor) -> Tensor:
            return z.view(B, T, H, N)

        _, wkv7 = choose("wkv7", x.device.type)
        y, wkv = wkv7(
            heads(r), heads(log_w), heads(k), heads(v), -kk, kk * heads(a),
            None if state is None else state.wkv, resets,
        )  # fmt: skip
        y = F.group_norm(
            y.reshape(B * T, C), H, self.ln_x.weight.to(y.dtype), self.ln_x.bias.to(y.dtype), GROUP_NORM_EPS
        ).view(B, T, C)
        bonus = (heads(r) * heads(k) * p["r_k"]).sum(-1, keepdim=True) * heads(v)
        return self.output((y + bonus.view(B, T, C)) * g), v_first, wkv


def _fp32(x: Tensor) -> Tensor:
    """At least fp32: float64 stays (the gradient checks run in it)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class ChannelMix(nn.Module):
    """Channel mixing ("ffn")."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.x_k = nn.Parameter(torch.empty(1, 1, spec.n_embd))
        self.key = Linear(spec.n_embd, spec.dim_ffn)
        self.value = Linear(spec.dim_ffn, spec.n_embd)

    def forward(self, x: Tensor, last: Tensor | None, resets: Tensor | None) -> Tensor:
        k = x + (token_shift(x, last, resets) - x) * self.x_k.to(x.dtype)
        return self.value(torch.relu(self.key(k)) ** 2)


class Block(nn.Module):
    """One layer. `v_first` is an explicit input and output, so that recomputation sees the same values."""

    def __init__(self, spec: Spec, layer: int) -> None:
        super().__init__()
        if layer == 0:
            self.ln0 = LayerNorm(spec.n_embd)
        self.ln1, self.ln2 = LayerNorm(spec.n_embd), LayerNorm(spec.n_embd)
        self.att, self.ffn = TimeMix(spec, layer), ChannelMix(spec)

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor, LayerState]:
        if hasattr(self, "ln0"):
            x = self.ln0(x)
        att_in = self.ln1(x)
        att, v_of_first, wkv = self.att(att_in, v_first, state, resets)
        x = x + att
        ffn_in = self.ln2(x)
        x = x + self.ffn(ffn_in, None if state is None else state.ffn_x, resets)
        return x, v_of_first, LayerState(att_in[:, -1], wkv, ffn_in[:, -1])


class RWKV7(nn.Module):
    """The model. Parameters are uninitialised: load them, or see `trainer.models.initial`.

    Args:
        spec: sizes and ranks, read from the file, never derived from the width.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.grad_cp = False
        self.emb = Embedding(spec.vocab_size, spec.n_embd)
        self.blocks = nn.ModuleList(Block(spec, layer) for layer in range(spec.n_layer))
        self.ln_out = LayerNorm(spec.n_embd)
        self.head = Linear(spec.n_embd, spec.vocab_size)
        self.compute_dtype = torch.float32

    def forward(
        self, tokens: Tensor, state: State | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Run the blocks.

        Args:
            tokens: int64 [B, T], any T ≥ 1.
            state: the state that a former call returned, or None for the start of a document.
            resets: bool [B, ceil(T / 16)], True where a document starts at token 16·j.

        Returns:
            The hidden vectors behind ln_out [B, T, C], and the state after the last token.
        """
        x = self.emb(tokens).to(self.compute_dtype)
        # The back ends' test runs here, once, and not in a block: recomputing that would not repeat it.
        choose("wkv7", x.device.type)
        v_first: Tensor | None = None
        new_state: State = []
        for layer, block in enumerate(self.blocks):
            arguments = (x, v_first, None if state is None else state[layer], resets)
            if self.grad_cp and torch.is_grad_enabled():
                x, v_first, layer_state = checkpoint(block, *arguments, use_reentrant=False)
            else:
                x, v_first, layer_state = block(*arguments)
            new_state.append(layer_state)
        return self.ln_out(x), new_state

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, C] -> [..., V]. For a few positions; a loss over a batch goes through `head_cross_entropy`."""
        return self.head(hidden)

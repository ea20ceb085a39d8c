"""What all RWKV generations share: embedding, blocks with their residuals, norms, token shift, state, head.

A generation adds its time mixing ("att") and channel mixing ("ffn"). Parameters are named exactly as in the
.pth. Shapes: B batch, T tokens, C n_embd, A dim_att, H heads, N head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.kernels.chunks import CHUNK
from trainer.kernels.dispatch import choose
from trainer.kernels.initial_state import run_from
from trainer.models import recompute
from trainer.models.layouts import ModelSpec
from trainer.models.quantised import FrozenProduct

LN_EPS = 1e-5
# RWKV-5's division by 8 before a norm with LN_EPS, and the same in the later generations.
GROUP_NORM_EPS = 64e-5


@dataclass(slots=True)
class LayerState:
    """What a layer carries to the next token.

    Attributes:
        att_x: [B, C], the last LN1 output. ffn_x: [B, C], the last LN2 output.
        wkv: of the recurrence, in fp32: [B, 3, A] of 4 (aa, bb, pp), [B, H, N, N] of 5 and 6 (k, v) and of
            7 (v, k).
    """

    att_x: Tensor
    wkv: Tensor
    ffn_x: Tensor


State = list[LayerState]
HeadLoss = Callable[[Tensor, Tensor], Tensor]
"""What a head gives in place of logits: of the hidden vectors [B, T, C] and its weight [V, C]."""


class Linear(nn.Module):
    """A projection without bias: y = x W^T."""

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.requires_grad:
            return F.linear(x, self.weight.to(x.dtype))
        return FrozenProduct.apply(x, self.weight)


class Head(Linear):
    """The last projection: to logits, or to a loss that needs no tensor of them."""

    def forward(self, x: Tensor, loss: HeadLoss | None = None) -> Tensor:
        return super().forward(x) if loss is None else loss(x, self.weight)


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

    def per_head(self, x: Tensor, n_head: int) -> Tensor:
        """x [B, T, A] normalised head by head."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return F.group_norm(x.flatten(0, 1), n_head, weight, bias, GROUP_NORM_EPS).view(x.shape)


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module where `name` stands, like `blocks.0.att.key`."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


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


def at_least_fp32(x: Tensor) -> Tensor:
    """In fp32, or in float64 where x is: the gradient checks run in it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def own_parameters(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """The parameters of a module itself, not of modules in it, in the activations' dtype."""
    return {name: param.to(dtype) for name, param in module.named_parameters(recurse=False)}


class HeadTimeMix(nn.Module):
    """What the time mixings with a matrix for each head share: a state to start documents from.

    Attributes:
        time_state: [H, N of v, N of k], trained or read from a file; None for zeros.
    """

    operation: ClassVar[str]
    state_is_kv: ClassVar[bool]
    time_state: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("time_state", None)

    def recur(
        self, inputs: Sequence[Tensor], state: LayerState | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The recurrence of `inputs`: y [B, T, H, N] and the final state [B, H, N, N]."""
        _, op = choose(self.operation, inputs[0].device.type, inputs[0].dtype)
        carried = None if state is None else state.wkv
        if self.time_state is None:
            return op(*inputs, carried, resets)
        initial = at_least_fp32(self.time_state)
        return run_from(op, inputs, initial.mT if self.state_is_kv else initial, carried, resets)


class Block(nn.Module):
    """One layer. `v_first` is an explicit input and output, so that recomputation sees the same values.

    Args:
        att: (x [B, T, C], v_first, state, resets) -> (output [B, T, C], v_first, the recurrence's state).
            v_first is what RWKV-7's first layer gives to the others, None in every other generation.
        ffn: (x [B, T, C], its last one before or None, resets) -> output [B, T, C].
    """

    def __init__(self, spec: ModelSpec, layer: int, att: nn.Module, ffn: nn.Module) -> None:
        super().__init__()
        if layer == 0:
            self.ln0 = LayerNorm(spec.n_embd)
        self.ln1, self.ln2 = LayerNorm(spec.n_embd), LayerNorm(spec.n_embd)
        self.att, self.ffn = att, ffn

    def forward(
        self, x: Tensor, v_first: Tensor | None, state: LayerState | None, resets: Tensor | None
    ) -> tuple[Tensor, Tensor | None, LayerState]:
        if hasattr(self, "ln0"):
            x = self.ln0(x)
        att_in = self.ln1(x)
        att, v_of_first, wkv = self.att(att_in, v_first, state, resets)
        x = x + att
        ffn_in = self.ln2(x)
        x = x + self.ffn(ffn_in, None if state is None else state.ffn_x, resets)
        return x, v_of_first, LayerState(att_in[:, -1], wkv, ffn_in[:, -1])


class RWKV(nn.Module):
    """A model of any generation. Parameters are uninitialised: load them, or see `trainer.models.initial`.

    Args:
        spec: generation, sizes and ranks, read from the file, never derived from the width.

    Attributes:
        operation: its recurrence, of `trainer.kernels.dispatch.OPERATIONS`.
        time_mix, channel_mix: what makes the parts of a block; see `Block`.
        recomputed: what of a block is computed again in the backward pass, instead of being kept.
        compute_dtype: of the activations.
    """

    operation: ClassVar[str]
    time_mix: ClassVar[Callable[[ModelSpec, int], nn.Module]]
    channel_mix: ClassVar[Callable[[ModelSpec], nn.Module]]

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.recomputed: recompute.Policy = "none"
        self.emb = Embedding(spec.vocab_size, spec.n_embd)
        kind = type(self)
        self.blocks = nn.ModuleList(
            Block(spec, layer, kind.time_mix(spec, layer), kind.channel_mix(spec))
            for layer in range(spec.n_layer)
        )
        self.ln_out = LayerNorm(spec.n_embd)
        self.head = Head(spec.n_embd, spec.vocab_size)
        self.compute_dtype = torch.float32

    def forward(
        self,
        tokens: Tensor,
        state: State | None = None,
        resets: Tensor | None = None,
        loss: HeadLoss | None = None,
    ) -> tuple[Tensor, State]:
        """Run the blocks, and the head where a loss is asked for.

        Args:
            tokens: int64 [B, T], any T ≥ 1.
            state: the state that a former call returned, or None for the start of a document.
            resets: bool [B, ceil(T / 16)], True where a document starts at token 16·j.
            loss: see `HeadLoss`.

        Returns:
            The hidden vectors behind ln_out [B, T, C], or their loss; and the state after the last token.
        """
        x = self.emb(tokens).to(self.compute_dtype)
        # The back ends' test runs here, once, and not in a block: recomputing that would not repeat it.
        choose(self.operation, x.device.type)
        v_first: Tensor | None = None
        new_state: State = []
        policy = self.recomputed if torch.is_grad_enabled() else "none"
        for layer, block in enumerate(self.blocks):
            arguments = (x, v_first, None if state is None else state[layer], resets)
            x, v_first, layer_state = recompute.run(policy, block, *arguments)
            new_state.append(layer_state)
        hidden = self.ln_out(x)
        return hidden if loss is None else self.head(hidden, loss), new_state

    def add_states(self) -> None:
        """Give layers that have none a state to start documents from (`HeadTimeMix.time_state`): zeros."""
        H, N, like = self.spec.n_head, self.spec.head_size, self.head.weight
        for module in self.modules():
            if isinstance(module, HeadTimeMix) and module.time_state is None:
                module.time_state = nn.Parameter(torch.zeros(H, N, N, device=like.device, dtype=like.dtype))

    def logits(self, hidden: Tensor) -> Tensor:
        """[…, C] -> [..., V]. For a few positions; a loss over a batch goes through `head_cross_entropy`."""
        return self.head(hidden)

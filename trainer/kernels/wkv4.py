"""The RWKV-4 average: per-token reference and chunked form, one signature.

    y_t = (A_{t-1} + e^{u + k_t} v_t) / (B_{t-1} + e^{u + k_t}),
    A_t = e^w A_{t-1} + e^{k_t} v_t,    B_t = e^w B_{t-1} + e^{k_t}          (channel by channel, w < 0)

The sums are kept as aa = A e^{-pp} and bb = B e^{-pp}, with pp near the largest exponent: e^k alone may be
out of range. A state is the three stacked, [B, 3, A]. pp is a scale that the forms choose, not a quantity:
a state that is returned has no gradient in it, and whatever depends on A and B alone, as the operation does,
gets its right gradients through aa and bb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.chunks import CHUNK, chunk_count

# The exponent of a sum without terms; its exponential is 0 beside any other, and differences stay finite.
NOTHING = -1e30


class _Sums(NamedTuple):
    """Numerator aa·e^pp and denominator bb·e^pp."""

    aa: Tensor
    bb: Tensor
    pp: Tensor

    def each(self, change: Callable[..., Tensor], *others: _Sums) -> _Sums:
        """`change` of the aa of these and of others, of their bb, and of their pp."""
        return _Sums(*map(change, self, *others))

    def decayed_and(self, later: _Sums, log_decay: Tensor | float) -> _Sums:
        """These sums times e^log_decay, plus later ones."""
        pp = self.pp + log_decay
        top = torch.maximum(pp, later.pp).detach()
        mine, theirs = (pp - top).exp(), (later.pp - top).exp()
        return _Sums(mine * self.aa + theirs * later.aa, mine * self.bb + theirs * later.bb, top)

    def read(self, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The weighted mean that the current token makes of what came before it and of itself."""
        own = u + k
        top = torch.maximum(self.pp, own).detach()
        past, now = (self.pp - top).exp(), (own - top).exp()
        return (past * self.aa + now * v) / (past * self.bb + now)

    def where(self, keep: Tensor) -> _Sums:
        """These sums where `keep` is True, elsewhere nothing."""
        return self.each(lambda mine, nothing: torch.where(keep, mine, nothing), _nothing(self.aa))


def _nothing(like: Tensor) -> _Sums:
    """Sums without terms, each a scalar; of the type and device of `like`."""
    return _Sums(like.new_zeros(()), like.new_zeros(()), like.new_full((), NOTHING))


def _initial(state: Tensor | None, v: Tensor) -> _Sums:
    if state is not None:
        return _Sums(*state.to(v.dtype).unbind(1))
    return _nothing(v).each(lambda x: x.expand(v.shape[0], v.shape[-1]))


def wkv4_reference(
    k: Tensor,
    v: Tensor,
    log_w: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Token by token: in float64 the yardstick of every other form, in fp32 for lower dtypes.

    Args:
        k, v: [B, T, A]. log_w, u: [A]; log_w is the logarithm of the decay, ≤ 0, and u the current token's
            bonus.
        state: [B, 3, A] (aa, bb, pp), or None for nothing yet.
        resets: bool [B, ceil(T / CHUNK)], True where a document starts at token CHUNK·j.

    Returns:
        y [B, T, A] and the final state [B, 3, A]; differentiable in everything, `state` included.
    """
    out_dtype = v.dtype
    dtype = torch.promote_types(k.dtype, torch.float32)
    k, v, log_w, u = (x.to(dtype) for x in (k, v, log_w, u))
    sums = _initial(state, v)
    ones = torch.ones_like(v[:, 0])
    ys = []
    for t in range(v.shape[1]):
        if resets is not None and t % CHUNK == 0:
            sums = sums.where(~resets[:, t // CHUNK, None])
        ys.append(sums.read(u, k[:, t], v[:, t]))
        sums = sums.decayed_and(_Sums(v[:, t], ones, k[:, t]), log_w)
    return torch.stack(ys, 1).to(out_dtype), torch.stack(sums, 1)


def _running_sums(terms: _Sums, log_w: Tensor, starts: Tensor | None = None) -> _Sums:
    """Sums over all terms up to each one, along dimension -2, in log2(n) steps (Hillis and Steele's scan).

    Args:
        terms: each [..., n, A]. log_w: [A], the decay from one term to the next.
        starts: bool [..., n], terms that forget all before them.
    """
    span, n = 1, terms.aa.shape[-2]
    while span < n:
        later = terms.each(lambda x, n=span: x[..., n:, :])
        joined = terms.each(lambda x, n=span: x[..., :-n, :]).decayed_and(later, log_w * span)
        if starts is not None:
            fresh = starts[..., span:, None]
            joined = later.each(lambda new, old, here=fresh: torch.where(here, new, old), joined)
            starts = torch.cat((starts[..., :span], starts[..., span:] | starts[..., :-span]), -1)
        terms = terms.each(lambda x, y, n=span: torch.cat((x[..., :n, :], y), -2), joined)
        span *= 2
    return terms


def wkv4_chunked(
    k: Tensor,
    v: Tensor,
    log_w: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same numbers without a loop over tokens: running sums in chunks of 16, then over the chunks.

    Every exponential that is taken is of a difference to a maximum, so no k and no decay is too large.
    Computes in fp32 for lower dtypes, in float64 for float64.
    """
    B, T, A = v.shape
    out_dtype, chunks = v.dtype, chunk_count(T)
    dtype = torch.promote_types(k.dtype, torch.float32)
    with torch.autocast(k.device.type, enabled=False):
        k, v, log_w, u = (x.to(dtype) for x in (k, v, log_w, u))
        # [B, chunks, CHUNK, A]; nothing reads the tokens of zeros that fill the last chunk.
        k, v = (F.pad(x, (0, 0, 0, -T % CHUNK)).view(B, chunks, CHUNK, A) for x in (k, v))
        initial = _initial(state, v[:, 0])
        inside = _running_sums(_Sums(v, torch.ones_like(v), k), log_w)
        ends = inside.each(lambda x: x[:, :-1, -1])
        over = initial.each(lambda x, y: torch.cat((x[:, None], y), 1), ends)
        starts = None
        if resets is not None:
            # A chunk's sums come one place after the state that enters it.
            starts = F.pad(resets[:, :-1], (1, 0))
        entering = _running_sums(over, log_w * CHUNK, starts)
        if resets is not None:
            entering = entering.where(~resets[..., None])
        steps = torch.arange(CHUNK, dtype=dtype, device=k.device)[:, None]
        # What came before a token: of its own chunk, nothing for the first, and of the chunks before.
        earlier = _nothing(v).each(
            lambda x, y: torch.cat((x.expand(B, chunks, 1, A), y[:, :, :-1]), 2), inside
        )
        before = entering.each(lambda x: x[:, :, None]).decayed_and(earlier, log_w * steps)
        y = before.read(u, k, v).view(B, chunks * CHUNK, A)[:, :T]
        last = (T - 1) % CHUNK
        term = _Sums(v[:, -1, last], torch.ones_like(v[:, -1, last]), k[:, -1, last])
        final = before.each(lambda x: x[:, -1, last]).decayed_and(term, log_w)
    return y.to(out_dtype), torch.stack(final, 1)

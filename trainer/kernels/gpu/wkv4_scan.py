"""Triton kernels of the RWKV-4 average: every channel walks along its tokens, all channels at once.

Sums are (aa, bb, pp) as in `trainer.kernels.wkv4`. keep_ [B, chunks] is 0 where a document starts; states_
[B, chunks, 3, A] are those before each chunk, what is 0 there already forgotten.
"""

from __future__ import annotations

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]


@triton.jit
def _channels(A, BLOCK: tl.constexpr):
    """The row, this program's channels, and which of them exist."""
    a = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    return tl.program_id(0).to(tl.int64), a, a < A


@triton.jit
def _load(pointer, places, exist):
    return tl.load(pointer + places, mask=exist, other=0.0).to(tl.float32)


@triton.jit
def _load_sums(pointer, places, A, exist):
    bb, pp = _load(pointer, places + A, exist), _load(pointer, places + 2 * A, exist)
    return _load(pointer, places, exist), bb, pp


@triton.jit
def _store_sums(pointer, places, A, aa, bb, pp, exist):
    tl.store(pointer + places, aa, mask=exist)
    tl.store(pointer + places + A, bb, mask=exist)
    tl.store(pointer + places + 2 * A, pp, mask=exist)


@triton.jit
def _read(bb, pp, own):
    """Shares of what came before and of the token itself in its output."""
    top = tl.maximum(pp, own)
    past, now = tl.exp(pp - top), tl.exp(own - top)
    total = past * bb + now
    return past / total, now / total


@triton.jit
def _decayed_and(pp, w, k):
    """Factors of the sums and of a new term, and their common exponent."""
    top = tl.maximum(pp + w, k)
    return tl.exp(pp + w - top), tl.exp(k - top), top


@triton.jit
def wkv4_forward(
    k_, v_, w_, u_, first_, keep_, states_, last_, y_, T, A, chunks, NOTHING,
    C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, a, exist = _channels(A, BLOCK)
    w, u = _load(w_, a, exist), _load(u_, a, exist)
    aa, bb, pp = _load_sums(first_, b * 3 * A + a, A, exist)
    for t in range(T):
        if t % C == 0:
            keep = tl.load(keep_ + b * chunks + t // C) != 0
            aa, bb, pp = tl.where(keep, aa, 0.0), tl.where(keep, bb, 0.0), tl.where(keep, pp, NOTHING)
            _store_sums(states_, (b * chunks + t // C) * 3 * A + a, A, aa, bb, pp, exist)
        at = (b * T + t) * A + a
        k, v = _load(k_, at, exist), _load(v_, at, exist)
        past, now = _read(bb, pp, u + k)
        tl.store(y_ + at, (past * aa + now * v).to(y_.dtype.element_ty), mask=exist)
        old, new, pp = _decayed_and(pp, w, k)
        aa, bb = old * aa + new * v, old * bb + new
    _store_sums(last_, b * 3 * A + a, A, aa, bb, pp, exist)


@triton.jit
def wkv4_backward(
    k_, v_, w_, u_, keep_, states_, dy_, dlast_, inside_, dk_, dv_, dw_, du_, dfirst_, T, A, chunks,
    C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients, chunk by chunk from the last; inside_ [B, C, 3, A] has room for a chunk's states.

    That of the last exponent does not count: it is a scale. dw_ and du_ [B, A] are parts of a sum.
    """
    b, a, exist = _channels(A, BLOCK)
    w, u = _load(w_, a, exist), _load(u_, a, exist)
    aa, bb, _ = _load_sums(states_, b * chunks * 3 * A + a, A, exist)
    daa, dbb, _ = _load_sums(dlast_, b * 3 * A + a, A, exist)
    dw = tl.zeros([BLOCK], tl.float32)
    du = tl.zeros([BLOCK], tl.float32)
    for i in range(chunks):
        chunk = chunks - 1 - i
        tokens = tl.minimum(C, T - chunk * C)
        aa, bb, pp = _load_sums(states_, (b * chunks + chunk) * 3 * A + a, A, exist)
        for t in range(tokens):
            _store_sums(inside_, (b * C + t) * 3 * A + a, A, aa, bb, pp, exist)
            at = (b * T + chunk * C + t) * A + a
            k, v = _load(k_, at, exist), _load(v_, at, exist)
            old, new, pp = _decayed_and(pp, w, k)
            aa, bb = old * aa + new * v, old * bb + new
        tl.debug_barrier()
        for j in range(tokens):
            t = tokens - 1 - j
            at = (b * T + chunk * C + t) * A + a
            aa, bb, pp = _load_sums(inside_, (b * C + t) * 3 * A + a, A, exist)
            k, v, dy = _load(k_, at, exist), _load(v_, at, exist), _load(dy_, at, exist)
            past, now = _read(bb, pp, u + k)
            old, new, _ = _decayed_and(pp, w, k)
            y = past * aa + now * v
            d_own = dy * now * (v - y)
            dk = d_own + new * (daa * v + dbb)
            dv = dy * now + new * daa
            tl.store(dk_ + at, dk.to(dk_.dtype.element_ty), mask=exist)
            tl.store(dv_ + at, dv.to(dv_.dtype.element_ty), mask=exist)
            du += d_own
            dw += old * (daa * aa + dbb * bb)
            daa, dbb = old * daa + dy * past, old * dbb - dy * past * y
        tl.debug_barrier()
        keep = tl.load(keep_ + b * chunks + chunk) != 0
        daa, dbb = tl.where(keep, daa, 0.0), tl.where(keep, dbb, 0.0)
    tl.store(dw_ + b * A + a, dw, mask=exist)
    tl.store(du_ + b * A + a, du, mask=exist)
    # aa and bb are again those before the first token: d(aa e^pp) / d pp = aa e^pp.
    _store_sums(dfirst_, b * 3 * A + a, A, daa, dbb, daa * aa + dbb * bb, exist)

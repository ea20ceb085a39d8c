"""Triton kernels that the recurrences with matrix states share: between chunks, and from states to outputs.

A chunk of C tokens maps the state S [N (v), N (k)] before it to S M + G, with M a matrix or diagonal, and
its outputs are Y + R S^T. Everything inside the chunks is computed for all of them at once; only `scan`
walks, with one small product a chunk. Shapes: M [BH, chunks, N, N] or, diagonal, [BH, chunks, N]; G, S and D
[BH, chunks, N, N]; R and Y [B, T, H, N]; all fp32.
"""

from __future__ import annotations

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]


@triton.jit
def token_places(T, H, C: tl.constexpr, N: tl.constexpr):
    """Of the tokens of this program's chunk: offsets [C, N] into [B, T, H, N], and which exist [C, 1]."""
    chunk, bh = tl.program_id(0), tl.program_id(1).to(tl.int64)
    t = chunk * C + tl.arange(0, C)[:, None]
    return ((bh // H * T + t) * H + bh % H) * N + tl.arange(0, N)[None, :], t < T


@triton.jit
def state_places(slots, N: tl.constexpr):
    """Offsets [N, N] of this program's chunk into [BH, slots, N, N]."""
    n = tl.arange(0, N)
    slot = tl.program_id(1).to(tl.int64) * slots + tl.program_id(0)
    return slot * N * N + n[:, None] * N + n[None, :]


@triton.jit
def load(pointer, places, exist):
    return tl.load(pointer + places, mask=exist, other=0.0).to(tl.float32)


@triton.jit
def store(pointer, places, value, exist):
    tl.store(pointer + places, value.to(pointer.dtype.element_ty), mask=exist)


@triton.jit
def scan(
    M_, G_, first_, S_, last_, keep_, chunks, H,
    ROWS: tl.constexpr, N: tl.constexpr, DIAGONAL: tl.constexpr, REVERSE: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """The state before each chunk, or backward its gradient after each chunk; ROWS rows of a head a program.

    first_, last_ [BH, N, N]: where it starts and ends. keep_ [B, chunks], 0 where a document starts.
    """
    bh = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)[:, None]
    n = tl.arange(0, N)
    at = row * N + n[None, :]
    s = tl.load(first_ + bh * N * N + at)
    for i in range(chunks):
        c = chunks - 1 - i if REVERSE else i
        slot = bh * chunks + c
        keep = tl.load(keep_ + bh // H * chunks + c) != 0
        if not REVERSE:
            s = tl.where(keep, s, 0.0)
        tl.store(S_ + slot * N * N + at, s)
        g = tl.load(G_ + slot * N * N + at)
        if DIAGONAL:
            s = s * tl.load(M_ + slot * N + n)[None, :] + g
        elif REVERSE:  # M^T, read as its transpose lies
            s = tl.dot(s, tl.load(M_ + slot * N * N + n[None, :] * N + n[:, None]), input_precision=P) + g
        else:
            s = tl.dot(s, tl.load(M_ + slot * N * N + n[:, None] * N + n[None, :]), input_precision=P) + g
        if REVERSE:
            s = tl.where(keep, s, 0.0)
    tl.store(last_ + bh * N * N + at, s)


@triton.jit
def read(R_, Y_, S_, y_, T, H, C: tl.constexpr, N: tl.constexpr, P: tl.constexpr):
    """y = Y + R S^T."""
    places, exist = token_places(T, H, C, N)
    S = tl.load(S_ + state_places(tl.num_programs(0), N))
    y = load(Y_, places, exist) + tl.dot(load(R_, places, exist), tl.trans(S), input_precision=P)
    store(y_, places, y, exist)


@triton.jit
def read_backward(R_, dy_, E_, T, H, C: tl.constexpr, N: tl.constexpr, P: tl.constexpr):
    """E = dy^T R, what a chunk's outputs give to the gradient of the state before it."""
    places, exist = token_places(T, H, C, N)
    E = tl.dot(tl.trans(load(dy_, places, exist)), load(R_, places, exist), input_precision=P)
    tl.store(E_ + state_places(tl.num_programs(0), N), E)

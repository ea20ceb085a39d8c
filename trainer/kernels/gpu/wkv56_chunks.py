"""Triton kernels of the chunks of RWKV-5 and RWKV-6.

Their decay has no bound, so it cannot be split into a factor of the reading and one of the writing token:
either may overflow. Instead each pair of tokens gets the sum of the log-decays between them, carried along
as the reading token moves on.
"""

from __future__ import annotations

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

from trainer.kernels.gpu.states import load, state_places, store, token_places


@triton.jit
def _row(pointer, t, T, H, N: tl.constexpr):
    """Token t of the sequence, [N]; zeros behind the last one."""
    bh = tl.program_id(1).to(tl.int64)
    at = ((bh // H * T + t) * H + bh % H) * N + tl.arange(0, N)
    return tl.load(pointer + at, mask=tl.full([N], t, tl.int32) < T, other=0.0).to(tl.float32)


@triton.jit
def wkv56_maps(
    r_, w_, k_, v_, u_, M_, G_, R_, Y_, T, H,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, ALL: tl.constexpr,
):  # fmt: skip
    """M (diagonal), R and, where ALL are wanted, G and Y of each chunk."""
    places, exist = token_places(T, H, C, N)
    chunk, bh = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i, n = tl.arange(0, C), tl.arange(0, N)
    k = load(k_, places, exist)
    between = tl.zeros([C, N], tl.float32)  # the log-decays between each token and the reading one
    before = tl.zeros([C, N], tl.float32)
    total = tl.zeros([N], tl.float32)
    scores = tl.zeros([C, C], tl.float32)
    for t in range(C):
        r_t, w_t = _row(r_, chunk * C + t, T, H, N), _row(w_, chunk * C + t, T, H, N)
        if ALL:
            of_t = tl.where(i < t, tl.sum(k * r_t[None, :] * tl.exp(between), 1), 0.0)
            scores += tl.where(i[:, None] == t, of_t[None, :], 0.0)
        before += tl.where(i[:, None] == t, total[None, :], 0.0)
        between += tl.where(i[:, None] < t, w_t[None, :], 0.0)
        total += w_t
    r = load(r_, places, exist)
    store(R_, places, r * tl.exp(before), exist)
    tl.store(M_ + (bh * tl.num_programs(0) + chunk) * N + n, tl.exp(total))
    if ALL:
        v = load(v_, places, exist)
        u = tl.load(u_ + bh % H * N + n).to(tl.float32)[None, :]
        store(Y_, places, tl.dot(scores, v, input_precision=P) + tl.sum(r * k * u, 1)[:, None] * v, exist)
        G = tl.dot(tl.trans(v), k * tl.exp(between), input_precision=P)
        tl.store(G_ + state_places(tl.num_programs(0), N), G)


@triton.jit
def wkv56_gradients(
    r_, w_, k_, v_, u_, dy_, S_, D_, dr_, dw_, dk_, dv_, du_, T, H,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Gradients of the inputs, from the state S before the chunk and the gradient D of the state after it.

    du_ [BH, chunks, N] are parts of a sum.
    """
    places, exist = token_places(T, H, C, N)
    chunk, bh = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i, n = tl.arange(0, C), tl.arange(0, N)
    states = state_places(tl.num_programs(0), N)
    k, v, dy = load(k_, places, exist), load(v_, places, exist), load(dy_, places, exist)
    d_scores = tl.dot(dy, tl.trans(v), input_precision=P)
    between = tl.zeros([C, N], tl.float32)
    before = tl.zeros([C, N], tl.float32)
    total = tl.zeros([N], tl.float32)
    scores = tl.zeros([C, C], tl.float32)
    dr = tl.zeros([C, N], tl.float32)
    dk = tl.zeros([C, N], tl.float32)
    for t in range(C):
        r_t, w_t = _row(r_, chunk * C + t, T, H, N), _row(w_, chunk * C + t, T, H, N)
        here, earlier = i[:, None] == t, i[:, None] < t
        decay = tl.where(earlier, tl.exp(between), 0.0)
        d_of_t = tl.sum(tl.where(here, d_scores, 0.0), 0)[:, None]
        scores += tl.where(here, tl.sum(k * decay * r_t[None, :], 1)[None, :], 0.0)
        dr += tl.where(here, tl.sum(d_of_t * k * decay, 0)[None, :], 0.0)
        dk += d_of_t * decay * r_t[None, :]
        before += tl.where(here, total[None, :], 0.0)
        between += tl.where(earlier, w_t[None, :], 0.0)
        total += w_t
    r = load(r_, places, exist)
    S, D = tl.load(S_ + states), tl.load(D_ + states)
    dr += tl.dot(dy, S, input_precision=P) * tl.exp(before)
    k_out = k * tl.exp(between)
    dk_out = tl.dot(v, D, input_precision=P) * tl.exp(between)
    dk += dk_out

    # A decay acts on whatever was written before its token and is read after it.
    out = tl.sum(k * dk_out, 0) + tl.sum(D * S, 0) * tl.exp(total)
    reads, writes = r * dr, k * dk
    both = reads - writes
    dw = (tl.sum(both, 0) + out)[None, :] - tl.cumsum(both, 0) - writes
    store(dw_, places, dw, exist)

    u = tl.load(u_ + bh % H * N + n).to(tl.float32)[None, :]
    bonus, d_bonus = tl.sum(r * k * u, 1)[:, None], tl.sum(dy * v, 1)[:, None]
    dv = tl.dot(k_out, tl.trans(D), input_precision=P) + tl.dot(tl.trans(scores), dy, input_precision=P)
    store(dv_, places, dv + bonus * dy, exist)
    store(dr_, places, dr + d_bonus * u * k, exist)
    store(dk_, places, dk + d_bonus * u * r, exist)
    tl.store(du_ + (bh * tl.num_programs(0) + chunk) * N + n, tl.sum(d_bonus * r * k, 0))

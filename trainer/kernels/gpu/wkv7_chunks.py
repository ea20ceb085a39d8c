"""Triton kernels of RWKV-7's chunks; the algebra is that of `trainer.kernels.wkv7.wkv7_chunked`."""

from __future__ import annotations

import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]

from trainer.kernels.gpu.states import load, state_places, store, token_places


@triton.jit
def _dot(x, y, P: tl.constexpr):
    return tl.dot(x, y, input_precision=P)


@triton.jit
def _inverse(A, C: tl.constexpr):
    """(I - A)^-1 of a strictly lower triangular A [C, C], row by row, in fp32."""
    i = tl.arange(0, C)
    X = tl.where(i[:, None] == i[None, :], 1.0, 0.0)
    for row in range(1, C):
        of_row = tl.sum(tl.where(i[:, None] == row, A, 0.0), 0)
        X += tl.where(i[:, None] == row, tl.sum(of_row[:, None] * X, 0)[None, :], 0.0)
    return X


@triton.jit
def _decays(log_w, C: tl.constexpr):
    """Decays about the chunk's middle, where exponents are smallest.

    Returns:
        To a token with its own decay, without it, and from it [C, N]; to the middle, and from there to the
        end [1, N].
    """
    g = tl.cumsum(log_w, 0)
    middle = tl.sum(tl.where(tl.arange(0, C)[:, None] < C // 2, log_w, 0.0), 0)[None, :]
    end = tl.sum(log_w, 0)[None, :]
    return (
        tl.exp(g - middle),
        tl.exp(g - log_w - middle),
        tl.exp(middle - g),
        tl.exp(middle),
        tl.exp(end - middle),
    )


@triton.jit
def wkv7_maps(
    r_, w_, k_, v_, a_, b_, M_, G_, R_, Y_, T, H,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr, ALL: tl.constexpr,
):  # fmt: skip
    """M, R and, where ALL are wanted, G and Y of each chunk."""
    places, exist = token_places(T, H, C, N)
    to, before, since, to_middle, to_end = _decays(load(w_, places, exist), C)
    i = tl.arange(0, C)
    strict, lower = i[:, None] > i[None, :], i[:, None] >= i[None, :]
    v = load(v_, places, exist)
    rg, ag = load(r_, places, exist) * to, load(a_, places, exist) * before
    kg, bg = load(k_, places, exist) * since, load(b_, places, exist) * since
    bT = tl.trans(bg)
    rb = tl.where(lower, _dot(rg, bT, P), 0.0)
    X = _inverse(tl.where(strict, _dot(ag, bT, P), 0.0), C)
    b_end = bg * to_end
    states = state_places(tl.num_programs(0), N)
    if ALL:
        kT = tl.trans(kg)
        ak = tl.where(strict, _dot(ag, kT, P), 0.0)
        rk = tl.where(lower, _dot(rg, kT, P), 0.0)
        U = _dot(X, _dot(ak, v, P), P)
        store(Y_, places, _dot(rk, v, P) + _dot(rb, U, P), exist)
        G = _dot(tl.trans(U), b_end, P)
        tl.store(G_ + states, tl.dot(tl.trans(v), kg * to_end, G, input_precision=P))
    W = _dot(X, ag * to_middle, P)
    store(R_, places, rg * to_middle + _dot(rb, W, P), exist)
    n = tl.arange(0, N)
    M = _dot(tl.trans(W), b_end, P) + tl.where(n[:, None] == n[None, :], to_middle * to_end, 0.0)
    tl.store(M_ + states, M)


@triton.jit
def wkv7_gradients(
    r_, w_, k_, v_, a_, b_, dy_, S_, D_, dr_, dw_, dk_, dv_, da_, db_, T, H,
    C: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """Gradients of the inputs, from the state S before the chunk and the gradient D of the state after it."""
    places, exist = token_places(T, H, C, N)
    to, before, since, to_middle, to_end = _decays(load(w_, places, exist), C)
    i = tl.arange(0, C)
    strict, lower = i[:, None] > i[None, :], i[:, None] >= i[None, :]
    states = state_places(tl.num_programs(0), N)
    S, D = tl.load(S_ + states), tl.load(D_ + states)
    r, a = load(r_, places, exist), load(a_, places, exist)
    k, b = load(k_, places, exist), load(b_, places, exist)
    v, dy = load(v_, places, exist), load(dy_, places, exist)
    rg, ag, kg, bg = r * to, a * before, k * since, b * since
    bT, kT = tl.trans(bg), tl.trans(kg)
    ak = tl.where(strict, _dot(ag, kT, P), 0.0)
    rb = tl.where(lower, _dot(rg, bT, P), 0.0)
    rk = tl.where(lower, _dot(rg, kT, P), 0.0)
    X = _inverse(tl.where(strict, _dot(ag, bT, P), 0.0), C)
    U = _dot(X, _dot(ak, v, P) + _dot(ag * to_middle, tl.trans(S), P), P)  # S a, of each token

    dU = _dot(tl.trans(rb), dy, P) + _dot(bg * to_end, tl.trans(D), P)
    dZ = _dot(tl.trans(X), dU, P)
    dv = _dot(tl.trans(rk), dy, P) + _dot(kg * to_end, tl.trans(D), P) + _dot(tl.trans(ak), dZ, P)
    store(dv_, places, dv, exist)

    UT, vT = tl.trans(U), tl.trans(v)
    d_rb = tl.where(lower, _dot(dy, UT, P), 0.0)
    d_rk = tl.where(lower, _dot(dy, vT, P), 0.0)
    d_ab = tl.where(strict, _dot(dZ, UT, P), 0.0)
    d_ak = tl.where(strict, _dot(dZ, vT, P), 0.0)
    dr = to * (_dot(dy, S, P) * to_middle + _dot(d_rb, bg, P) + _dot(d_rk, kg, P))
    da = before * (_dot(dZ, S, P) * to_middle + _dot(d_ab, bg, P) + _dot(d_ak, kg, P))
    # What b and k give to the state after the chunk, and what they give inside it.
    b_out, k_out = _dot(U, D, P) * (since * to_end), _dot(v, D, P) * (since * to_end)
    db = b_out + since * (_dot(tl.trans(d_ab), ag, P) + _dot(tl.trans(d_rb), rg, P))
    dk = k_out + since * (_dot(tl.trans(d_ak), ag, P) + _dot(tl.trans(d_rk), rg, P))
    store(dr_, places, dr, exist)
    store(da_, places, da, exist)
    store(db_, places, db, exist)
    store(dk_, places, dk, exist)

    # A decay acts on what was written before it and is read after it: by r of its own token too, by a not.
    out = tl.sum(b * b_out + k * k_out, 0) + tl.sum(D * S, 0) * tl.sum(to_middle * to_end, 0)
    writes = b * db + k * dk
    both = r * dr + a * da - writes
    dw = (tl.sum(both, 0) + out)[None, :] - tl.cumsum(both, 0) + r * dr - writes
    store(dw_, places, dw, exist)

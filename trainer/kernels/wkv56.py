"""The recurrence of RWKV-5 and RWKV-6: per-token reference and chunked form, one signature.

    y_t = r_t^T (S_{t-1} + diag(u) k_t v_t^T),      S_t = diag(exp(log_w_t)) S_{t-1} + k_t v_t^T

S has rows indexed by k and columns by v. The decay of RWKV-5 is a constant, that of RWKV-6 depends on the
token ("Eagle and Finch", Peng et al., arXiv 2404.05892). `resets` marks where documents start: there S is
zero before the token is read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.kernels.chunks import CHUNK, fold_heads, kept_states, unfold_heads


def wkv56_reference(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Token by token: in float64 the yardstick of every other form, in fp32 for lower dtypes.

    Args:
        r, k, v: [B, T, H, N].
        log_w: [B, T, H, N], or [H, N] where it is constant; the logarithm of the decay, ≤ 0, of any size.
        u: [H, N], the current token's bonus.
        state: [B, H, N, N] (k, v), or None for zeros.
        resets: bool [B, ceil(T / CHUNK)], True where a document starts at token CHUNK·j.

    Returns:
        y [B, T, H, N] and the final state [B, H, N, N]; differentiable in everything, `state` included.
    """
    B, T, H, N = r.shape
    out_dtype = v.dtype
    dtype = torch.promote_types(r.dtype, torch.float32)
    r, log_w, k, v, u = (x.to(dtype) for x in (r, log_w, k, v, u))
    S = r.new_zeros(B, H, N, N) if state is None else state.to(dtype)
    decay = log_w.exp().expand(B, T, H, N)
    ys = []
    for t in range(T):
        if resets is not None and t % CHUNK == 0:
            S = S * (~resets[:, t // CHUNK]).to(S.dtype).view(B, 1, 1, 1)
        kv = k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        ys.append((r[:, t].unsqueeze(-2) @ (S + u.unsqueeze(-1) * kv)).squeeze(-2))
        S = decay[:, t].unsqueeze(-1) * S + kv
    return torch.stack(ys, 1).to(out_dtype), S


class _Scan(torch.autograd.Function):
    """S_in[c] = keep[c]·S_out[c-1] and S_out[c] = D[c]·S_in[c] + G[c], over the chunks in sequence."""

    @staticmethod
    def forward(ctx: Any, D: Tensor, G: Tensor, S0: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        S_in = torch.empty_like(G)
        S = S0
        for c in range(D.shape[0]):
            torch.mul(S, keep[c], out=S_in[c])
            S = torch.addcmul(G[c], D[c], S_in[c])
        ctx.save_for_backward(D, S_in, keep)
        return S_in, S

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        dS_in, dS = grads
        D, S_in, keep = ctx.saved_tensors
        dG = torch.empty_like(S_in)
        for c in range(D.shape[0] - 1, -1, -1):
            dG[c] = dS
            dS = torch.addcmul(dS_in[c], D[c], dS) * keep[c]
        return (S_in * dG).sum(-1, keepdim=True), dG, dS, None


def _pairs(x: Tensor) -> tuple[Tensor, ...]:
    """Neighbouring blocks [..., blocks, n, d] as (first ones, second ones), each [..., blocks / 2, n, d]."""
    return x.unflatten(-3, (-1, 2)).unbind(-3)


def _scores(r: Tensor, log_w: Tensor, k: Tensor, bonus: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What each token of a chunk gets from each: scores[i, j] = Σ_n r_i k_j exp(Σ_{j<m<i} log_w_m).

    Blocks of 1, 2, 4 and 8 tokens are joined two by two. The decay between a token of the second block and
    one of the first splits at their border into two factors, neither above 1, so the product may vanish but
    not overflow, however fast the decay is; and only decays of the same two blocks are ever added.

    Args:
        r, log_w, k: [..., CHUNK, N]. bonus: [..., CHUNK], the diagonal.

    Returns:
        scores [..., CHUNK, CHUNK], and three sums of log_w: over the tokens before each one [..., CHUNK, N],
        over those after it [..., CHUNK, N], and over all [..., 1, N].
    """
    scores = bonus[..., None, None]
    r, k, total = (x.unsqueeze(-2) for x in (r, k, log_w))  # [..., CHUNK blocks, 1, N]
    before = after = torch.zeros_like(total)
    while total.shape[-3] > 1:
        (_, r2), (k1, _) = _pairs(r), _pairs(k)
        (before1, before2), (after1, after2), (total1, total2) = map(_pairs, (before, after, total))
        (scores1, scores2) = _pairs(scores)
        cross = (r2 * before2.exp()) @ (k1 * after1.exp()).transpose(-1, -2)
        scores = torch.cat(
            (torch.cat((scores1, torch.zeros_like(cross)), -1), torch.cat((cross, scores2), -1)), -2
        )
        before = torch.cat((before1, before2 + total1), -2)
        after = torch.cat((after1 + total2, after2), -2)
        total = total1 + total2
        r, k = (x.unflatten(-3, (-1, 2)).flatten(-3, -2) for x in (r, k))
    return scores.squeeze(-3), before.squeeze(-3), after.squeeze(-3), total.squeeze(-3)


def wkv56_chunked(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same numbers in chunks of 16 tokens: matrix products within a chunk, one product between chunks.

    Every exponent is a sum of log-decays and so never above 0. Computes in fp32 for lower dtypes, in float64
    for float64.
    """
    B, T, H, N = r.shape
    out_dtype = v.dtype
    dtype = torch.promote_types(r.dtype, torch.float32)
    with torch.autocast(r.device.type, enabled=False):
        # Tokens of zeros, which fill the last chunk, leave S as it is: they must not decay it either.
        r, log_w, k, v = (fold_heads(x.expand(B, T, H, N), dtype) for x in (r, log_w, k, v))
        bonus = (r * k * u.to(dtype).repeat(B, 1).unsqueeze(-2)).sum(-1)
        scores, before, after, total = _scores(r, log_w, k, bonus)
        G = (k * after.exp()).transpose(-1, -2) @ v
        D = total.exp().transpose(-1, -2)
        S0 = G.new_zeros(B * H, N, N) if state is None else state.to(dtype).reshape(B * H, N, N)
        S_in, S = _Scan.apply(D, G, S0, kept_states(resets, G, B))
        y = scores @ v + (r * before.exp()) @ S_in
    return unfold_heads(y, B, T).to(out_dtype), S.view(B, H, N, N)

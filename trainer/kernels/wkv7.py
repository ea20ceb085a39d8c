"""The RWKV-7 recurrence: per-token reference and chunked form, one signature.

    S_t = S_{t-1} diag(exp(log_w_t)) + (S_{t-1} a_t) b_t^T + v_t k_t^T,      y_t = S_t r_t

S has rows indexed by v and columns by k. In the model a = -kk and b = kk * a_gate (RWKV-7 "Goose",
arXiv 2503.14456). `resets` marks where documents start: there S is zero before the token is read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trainer.kernels.chunks import CHUNK, fold_heads, kept_states, unfold_heads


def wkv7_reference(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Token by token: in float64 the yardstick of every other form, in fp32 for lower dtypes.

    Args:
        r, log_w, k, v, a, b: [B, T, H, N]; log_w is the logarithm of the decay, ≤ 0.
        state: [B, H, N, N] (v, k), or None for zeros.
        resets: bool [B, ceil(T / CHUNK)], True where a document starts at token CHUNK·j.

    Returns:
        y [B, T, H, N] and the final state [B, H, N, N]; differentiable in everything, `state` included.
    """
    B, T, H, N = r.shape
    out_dtype = v.dtype
    dtype = torch.promote_types(r.dtype, torch.float32)
    r, log_w, k, v, a, b = (x.to(dtype) for x in (r, log_w, k, v, a, b))
    S = r.new_zeros(B, H, N, N) if state is None else state.to(dtype)
    decay = log_w.exp()
    ys = []
    for t in range(T):
        if resets is not None and t % CHUNK == 0:
            S = S * (~resets[:, t // CHUNK]).to(S.dtype).view(B, 1, 1, 1)
        sa = S @ a[:, t].unsqueeze(-1)
        S = (
            S * decay[:, t].unsqueeze(-2)
            + sa * b[:, t].unsqueeze(-2)
            + v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
        )
        ys.append((S @ r[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(ys, 1).to(out_dtype), S


class _Scan(torch.autograd.Function):
    """S_in[c] = keep[c]·S_out[c-1] and S_out[c] = S_in[c] M[c] + G[c], over the chunks in sequence."""

    @staticmethod
    def forward(ctx: Any, M: Tensor, G: Tensor, S0: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        S_in = torch.empty_like(G)
        S = S0
        for c in range(M.shape[0]):
            torch.mul(S, keep[c], out=S_in[c])
            S = torch.baddbmm(G[c], S_in[c], M[c])
        ctx.save_for_backward(M, S_in, keep)
        return S_in, S

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        dS_in, dS = grads
        M, S_in, keep = ctx.saved_tensors
        dG = torch.empty_like(S_in)
        for c in range(M.shape[0] - 1, -1, -1):
            dG[c] = dS
            dS = torch.baddbmm(dS_in[c], dS, M[c].transpose(1, 2)) * keep[c]
        return S_in.transpose(-1, -2) @ dG, dG, dS, None


def wkv7_chunked(
    r: Tensor,
    log_w: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    state: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same numbers in chunks of 16 tokens: matrix products within a chunk, one product between chunks.

    Writing g for the cumulative log-decay inside a chunk, each chunk is the affine map S ↦ S M + G, with
    M and G from (I - tril(a_g b_g^T, -1))^{-1}. The inverse is a forward substitution: doubling products
    (Neumann) lose all digits when a token repeats. Exponents are centred at mid-chunk; |log_w| ≤ 0.6066
    bounds them by ±5, safe in fp32. Computes in fp32 for lower dtypes, in float64 for float64.
    """
    B, T, H, N = r.shape
    out_dtype = v.dtype
    dtype = torch.promote_types(r.dtype, torch.float32)
    with torch.autocast(r.device.type, enabled=False):
        # Tokens of zeros, which fill the last chunk, leave S as it is.
        r, log_w, k, v, a, b = (fold_heads(x, dtype) for x in (r, log_w, k, v, a, b))
        g = log_w.cumsum(2)
        middle = g[:, :, CHUNK // 2 - 1 : CHUNK // 2]
        grow, shrink = (middle - g).exp(), (g - middle).exp()
        # What reads and what writes, each in one tensor: few large products are quicker than many small ones.
        readers = torch.cat((a * (g - log_w - middle).exp(), r * shrink), 2)
        writers = torch.cat((b * grow, k * grow), 2)
        lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=r.device).tril()
        earlier = lower.tril(-1)
        seen = torch.cat((torch.cat((earlier, earlier), 1), torch.cat((lower, lower), 1)))
        of_b, of_k = ((readers @ writers.transpose(-1, -2)) * seen).split(CHUNK, -1)
        ab, rb = of_b.split(CHUNK, -2)
        ak_v, rk_v = (of_k @ v).split(CHUNK, -2)
        ag, rg = (readers * middle.exp()).split(CHUNK, -2)
        eye = torch.eye(CHUNK, dtype=dtype, device=r.device)
        UW = torch.linalg.solve_triangular(
            eye - ab, torch.cat((ak_v, ag), -1), upper=False, unitriangular=True
        )
        y0, R = (torch.cat((rk_v, rg), -1) + rb @ UW).split(N, -1)
        b_end, k_end = (writers * (g[:, :, -1:] - middle).exp()).split(CHUNK, 2)
        G, M = (UW.transpose(-1, -2) @ b_end).split(N, -2)
        G = G + v.transpose(-1, -2) @ k_end
        M = M + torch.diag_embed(g[:, :, -1].exp())
        S0 = G.new_zeros(B * H, N, N) if state is None else state.to(dtype).reshape(B * H, N, N)
        S_in, S = _Scan.apply(M, G, S0, kept_states(resets, G, B))
        y = y0 + R @ S_in.transpose(-1, -2)
    return unfold_heads(y, B, T).to(out_dtype), S.view(B, H, N, N)

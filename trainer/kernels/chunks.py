"""Cutting a sequence into chunks, and the documents that start at their edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16
"""Tokens of a chunk; documents start at multiples of it."""


def chunk_count(T: int) -> int:
    """How many chunks hold T tokens."""
    return (T + CHUNK - 1) // CHUNK


def fold_heads(x: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, T, H, N] -> [chunks, B·H, CHUNK, N] in `dtype`; the last chunk is filled up with zeros."""
    B, T, H, N = x.shape
    x = F.pad(x.to(dtype), (0, 0, 0, 0, 0, -T % CHUNK)).view(B, chunk_count(T), CHUNK, H, N)
    return x.permute(1, 0, 3, 2, 4).reshape(-1, B * H, CHUNK, N)


def unfold_heads(x: Tensor, B: int, T: int) -> Tensor:
    """[chunks, B·H, CHUNK, N] -> [B, T, H, N]."""
    chunks, BH, _, N = x.shape
    x = x.view(chunks, B, BH // B, CHUNK, N).permute(1, 0, 3, 2, 4)
    return x.reshape(B, chunks * CHUNK, BH // B, N)[:, :T]


def kept_states(resets: Tensor | None, like: Tensor, B: int) -> Tensor:
    """[chunks, B·H, 1, 1]: 0 where a document starts with the chunk, else 1.

    Args:
        resets: bool [B, chunks], or None for no starts.
        like: [chunks, B·H, …], for sizes, type and device.
    """
    chunks, BH = like.shape[:2]
    if resets is None:
        return like.new_ones(chunks, BH, 1, 1)
    kept = (~resets).to(like.dtype).t()[:, :, None].expand(chunks, B, BH // B)
    return kept.reshape(chunks, BH, 1, 1)

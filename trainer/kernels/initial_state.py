"""A recurrence whose documents start from a given state instead of zero, over any back end.

A back end clears its state where a document starts. To start from another one, rows are cut there and every
piece becomes a row of its own; only the recurrence pays for the padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from trainer.kernels.chunks import CHUNK


def run_from(
    op: Callable[..., tuple[Tensor, Tensor]],
    inputs: Sequence[Tensor],
    initial: Tensor,
    state: Tensor | None,
    resets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`op(*inputs, state, resets)`, with `initial` in place of zero.

    Args:
        inputs: what the recurrence takes; those with four dimensions are sequences [B, T, H, N]. The decay
            has to be one, or the padding would decay the final state.
        initial: [H, N, N], the state before a document's first token.
        state: [B, H, N, N] before the first token of each row; None at the start of a document.
        resets: bool [B, ceil(T / CHUNK)], True where a document starts at token CHUNK·j.

    Returns:
        y [B, T, H, N] and the final state [B, H, N, N]; differentiable in everything, `initial` included.
    """
    B, T = inputs[0].shape[:2]
    start = initial.expand(B, *initial.shape) if state is None else state
    if resets is None:
        return op(*inputs, start, None)
    start = torch.where(resets[:, 0, None, None, None], initial, start)
    cuts = [[0, *_starts(row), T] for row in resets.tolist()]
    pieces = [(b, i, j) for b, row in enumerate(cuts) for i, j in pairwise(row)]
    if len(pieces) == B:
        return op(*inputs, start, None)

    # Where each token of each piece comes from in [B·T]; B·T is a token of zeros, which changes no state.
    device, longest = start.device, max(j - i for _, i, j in pieces)
    source = torch.full((len(pieces), longest), B * T, device=device)
    for n, (b, i, j) in enumerate(pieces):
        source[n, : j - i] = torch.arange(b * T + i, b * T + j, device=device)
    used = source < B * T
    y, final = op(
        *(_gather(x, source) if x.dim() == 4 else x for x in inputs),
        torch.stack([start[b] if i == 0 else initial for b, i, _ in pieces]),
        None,
    )
    # The pieces follow one another as the tokens do.
    last = torch.tensor([n for n, (_, _, j) in enumerate(pieces) if j == T], device=device)
    return y[used].view(B, T, *y.shape[2:]), final[last]


def _starts(row: list[bool]) -> list[int]:
    """Tokens at which documents start, after the first."""
    return [CHUNK * j for j, starts in enumerate(row) if starts and j]


def _gather(x: Tensor, source: Tensor) -> Tensor:
    tokens = x.flatten(0, 1)
    return torch.cat((tokens, tokens.new_zeros(1, *tokens.shape[1:])))[source]

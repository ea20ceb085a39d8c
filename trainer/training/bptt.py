"""Losses of rows that are longer than the model reads at once: back-propagation through time.

A row runs through the model in chunks, and the state of each goes on to the next. Gradients flow back through
the states of a whole segment of chunks, all of the row or `bptt_chunks` of them; of a segment only the states
at its chunk edges and the activations of one chunk are held at a time, the rest is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainer.data.packing import ALIGN
from trainer.kernels.dispatch import choose
from trainer.models.skeleton import RWKV, LayerState, State
from trainer.training.batches import MicroBatch
from trainer.training.head_loss import summed_loss


def segment_losses(
    model: RWKV, batch: MicroBatch, *, chunk_tokens: int, bptt_chunks: int = 0, l2wrap: float = 0.0
) -> Iterator[Tensor]:
    """The summed cross-entropy of each segment; run its backward pass before asking for the next one.

    Args:
        chunk_tokens: a multiple of 16.
        bptt_chunks: chunks of a segment; 0 makes the whole row one segment.
        l2wrap: see `head_cross_entropy`.
    """
    # The back ends' test runs once, and not in what is computed again: repeating that would not repeat it.
    choose(model.operation, batch.tokens.device.type, model.compute_dtype)
    ends = _ends(batch.targets)
    # Longest first: a row that has ended is left out of what comes after.
    ends, order = ends.sort(descending=True, stable=True)
    tokens, targets, resets = (x[order] for x in (batch.tokens, batch.targets, batch.resets))
    row_ends = ends.tolist()
    state: State | None = None
    loss = batch.tokens.new_zeros((), dtype=torch.float32)
    for number, start in enumerate(range(0, row_ends[0], chunk_tokens), 1):
        rows, stop = sum(end > start for end in row_ends), start + chunk_tokens
        arguments = (
            model, tokens[:rows, start:stop], targets[:rows, start:stop],
            resets[:rows, start // ALIGN : stop // ALIGN], _first_rows(state, rows), l2wrap,
        )  # fmt: skip
        is_last = stop >= row_ends[0] or (bptt_chunks > 0 and number % bptt_chunks == 0)
        # The last chunk is the first that the backward pass needs: it would be computed twice in a row.
        part, after = _chunk(*arguments) if is_last else checkpoint(_chunk, *arguments, use_reentrant=False)
        loss = loss + part
        if is_last:
            yield loss
            loss = torch.zeros_like(part)
            after = [LayerState(s.att_x.detach(), s.wkv.detach(), s.ffn_x.detach()) for s in after]
        state = after


def _ends(targets: Tensor) -> Tensor:
    """Behind each row's last target, int64 [B]; 0 where a row has none."""
    places = torch.arange(1, targets.shape[1] + 1, device=targets.device)
    return (places * (targets >= 0)).amax(1)


def _first_rows(state: State | None, rows: int) -> State | None:
    if state is None or len(state[0].wkv) == rows:
        return state
    return [LayerState(s.att_x[:rows], s.wkv[:rows], s.ffn_x[:rows]) for s in state]


def _chunk(
    model: RWKV, tokens: Tensor, targets: Tensor, resets: Tensor, state: State | None, l2wrap: float
) -> tuple[Tensor, State]:
    return model(tokens, state, resets, partial(summed_loss, targets, l2wrap=l2wrap))

"""Mean next-token loss of documents, each from a zero state, long ones carried in state over chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from trainer.data.binidx import BinidxReader
from trainer.data.packing import ALIGN
from trainer.models.skeleton import RWKV, HeadLoss, State
from trainer.training.head_loss import IGNORE, summed_loss

CHUNK_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Evaluation:
    """loss: nats per counted token; NaN where nothing was counted."""

    loss: float
    counted_tokens: int
    documents: int

    @property
    def ppl(self) -> float:
        return math.exp(min(self.loss, 700.0)) if math.isfinite(self.loss) else math.nan


def _stream(
    reader: BinidxReader, documents: Iterable[int], assistant_only: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(tokens, targets, resets) of each document, padded to whole blocks of `ALIGN` tokens."""
    for index in documents:
        tokens = np.asarray(reader[index]).astype(np.int64)
        if len(tokens) < 2:
            continue
        inputs, targets = tokens[:-1], tokens[1:].copy()
        if assistant_only and (mask := reader.mask(index)) is not None:
            targets[np.asarray(mask)[1:] == 0] = IGNORE
        padding = (0, -len(inputs) % ALIGN)
        resets = np.zeros((len(inputs) + padding[1]) // ALIGN, dtype=bool)
        resets[0] = True
        yield np.pad(inputs, padding), np.pad(targets, padding, constant_values=IGNORE), resets


def _chunks(
    stream: Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The documents end to end, cut every `size` tokens."""
    tokens, targets, resets = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))
    for t, y, z in stream:
        tokens, targets, resets = (np.concatenate(pair) for pair in ((tokens, t), (targets, y), (resets, z)))
        while len(tokens) >= size:
            yield tokens[:size], targets[:size], resets[: size // ALIGN]
            tokens, targets, resets = tokens[size:], targets[size:], resets[size // ALIGN :]
    if len(tokens):
        yield tokens, targets, resets


def tokens_to_read(sizes: np.ndarray) -> int:
    """How many tokens `evaluate` reads of documents of these sizes [n], the padding between them included."""
    inputs = np.where(sizes < 2, 0, sizes.astype(np.int64) - 1)
    return int((-(-inputs // ALIGN) * ALIGN).sum())


@torch.no_grad()
def read_documents(
    model: RWKV,
    reader: BinidxReader,
    documents: Iterable[int],
    *,
    assistant_only: bool = False,
    loss_of: Callable[[Tensor], HeadLoss] | None = None,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Documents end to end through the model, `CHUNK_TOKENS` at a time, the state reset at each start.

    Args:
        loss_of: targets -> what is asked of the model's head; None for the hidden vectors [1, T, C].

    Yields:
        What the model gives, and the targets int64 [1, T], `IGNORE` where nothing counts.
    """
    was_training = model.training
    device = model.emb.weight.device
    state: State | None = None
    model.eval()
    try:
        for chunk in _chunks(_stream(reader, documents, assistant_only), CHUNK_TOKENS):
            tokens, targets, resets = (torch.from_numpy(array)[None].to(device) for array in chunk)
            got, state = model(tokens, state, resets, None if loss_of is None else loss_of(targets))
            yield got, targets
    finally:
        model.train(was_training)


def evaluate(
    model: RWKV,
    reader: BinidxReader,
    documents: Iterable[int],
    *,
    assistant_only: bool = False,
    on_progress: Callable[[int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Mean loss of every token after a document's first (or of the assistant's, where asked).

    The documents run end to end through the model with the state reset at each start, so short documents
    share chunks and long ones carry their state: the figure equals a run token by token.

    Args:
        documents: indices into the reader.
        on_progress: called with the number of tokens done, of `tokens_to_read`.
    """
    documents = list(documents)
    total, counted, done = 0.0, 0, 0
    read = read_documents(
        model, reader, documents, assistant_only=assistant_only, loss_of=lambda y: partial(summed_loss, y)
    )
    with closing(read):
        for loss, targets in read:
            total += float(loss)
            counted += int((targets >= 0).sum())
            done += targets.numel()
            if on_progress is not None:
                on_progress(done)
            if should_stop is not None and should_stop():
                break
    return Evaluation(total / counted if counted else math.nan, counted, len(documents))

"""Mean next-token loss of documents, each from a zero state, long ones carried in state over chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from trainer.data.binidx import BinidxReader
from trainer.data.packing import ALIGN
from trainer.models.skeleton import RWKV, State
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
    was_training = model.training
    model.eval()
    device = model.emb.weight.device
    documents = list(documents)
    total, counted, done = 0.0, 0, 0
    state: State | None = None
    for tokens, targets, resets in _chunks(_stream(reader, documents, assistant_only), CHUNK_TOKENS):
        if should_stop is not None and should_stop():
            break
        x, y, starts = (torch.from_numpy(array)[None].to(device) for array in (tokens, targets, resets))
        loss, state = model(x, state, starts, partial(summed_loss, y))
        total += float(loss)
        counted += int((y >= 0).sum())
        done += len(tokens)
        if on_progress is not None:
            on_progress(done)
    model.train(was_training)
    return Evaluation(total / counted if counted else math.nan, counted, len(documents))

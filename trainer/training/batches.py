"""The documents of a run as batches on the device, one window of micro-batches for each optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.contract.errors import InputError, Problem
from trainer.contract.params import TrainParams
from trainer.data.binidx import BinidxReader
from trainer.data.mixing import MixedIn, MixedOrder, mix_in, pack, rows_per_pass
from trainer.data.packing import PackedRows, Row, collate
from trainer.data.sampling import split_documents
from trainer.training.schedule import StepPlan


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What the model reads at once.

    Attributes:
        tokens, targets: int64 [B, T]. resets: bool [B, T / 16].
        counted: targets that are not masked. read_tokens: tokens that are not padding.
    """

    tokens: Tensor
    targets: Tensor
    resets: Tensor
    counted: int
    read_tokens: int


Window = list[MicroBatch]


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run trains on and what it is judged by."""

    reader: BinidxReader
    rows: PackedRows
    validation: np.ndarray
    assistant_only: bool
    notes: tuple[Problem, ...]
    mixed: tuple[MixedIn, ...] = ()

    @property
    def rows_per_pass(self) -> int:
        """Rows of one pass over the main data, those mixed in included."""
        return rows_per_pass(len(self.rows), self.mixed)


def open_data(prefix: Path, params: TrainParams, vocab_size: int, mixed: Sequence[Path] = ()) -> RunData:
    """Open converted data, hold documents back for validation, pack the rest, and what is mixed in.

    Args:
        mixed: prefixes of the converted `mix_data`; nothing of it is held back.

    Raises:
        InputError: a token beyond the model's vocabulary, nothing to learn from, no mask where one is needed.
    """
    reader = BinidxReader(prefix)
    reader.check_vocabulary(vocab_size)
    assistant_only = params.loss_mask == "assistant"
    if assistant_only and reader.all_masks is None:
        raise InputError("data_mask_missing", path=str(prefix))
    train, validation = split_documents(len(reader), params.val_fraction, params.seed)
    rows = pack(reader, train, params)
    notes: list[Problem] = []
    if reader.tokens < params.ctx_len:
        notes.append(Problem("data_short", {"tokens": reader.tokens, "ctx_len": params.ctx_len}))
    if params.val_fraction and not len(validation):
        notes.append(Problem("validation_empty"))
    others = mix_in(mixed, len(rows), params)
    return RunData(reader, rows, validation, assistant_only, tuple(notes), others)


class Windows:
    """Iterates over the windows of the steps `first` … `plan.total_steps` on one device."""

    def __init__(
        self, data: RunData, plan: StepPlan, *, seed: int, rank: int, first: int, device: str
    ) -> None:
        self._data, self._plan = data, plan
        self._order = MixedOrder(seed, len(data.rows), data.mixed)
        self._rank, self._first, self._device = rank, first, device

    def __len__(self) -> int:
        return self._plan.total_steps - self._first

    def __iter__(self) -> Iterator[Window]:
        for step in range(self._first, self._plan.total_steps):
            yield [
                self._batch(positions) for positions in self._plan.positions(step, self._rank) if positions
            ]

    def _batch(self, positions: list[int]) -> MicroBatch:
        batch = collate([self._row(position) for position in positions])
        tokens, targets, resets = (
            torch.from_numpy(array).to(self._device) for array in (batch.tokens, batch.targets, batch.resets)
        )
        return MicroBatch(tokens, targets, resets, int((batch.targets >= 0).sum()), batch.read_tokens)

    def _row(self, position: int) -> Row:
        source, row = self._order.at(position)
        return (self._data.rows if source is None else self._data.mixed[source].rows).row(row)

"""The documents of a run as batches on the device, one window of micro-batches for each optimizer step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.contract.errors import InputError, Problem
from trainer.contract.params import TrainParams
from trainer.data.binidx import BinidxReader
from trainer.data.packing import PackedRows, collate
from trainer.data.sampling import Permutation, split_documents
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


def open_data(prefix: Path, params: TrainParams, vocab_size: int) -> RunData:
    """Open converted data, hold documents back for validation, pack the rest.

    Raises:
        InputError: a token beyond the model's vocabulary, nothing to learn from, no mask where one is needed.
    """
    reader = BinidxReader(prefix)
    reader.check_vocabulary(vocab_size)
    assistant_only = params.loss_mask == "assistant"
    if assistant_only and reader.all_masks is None:
        raise InputError("data_mask_missing", path=str(prefix))
    train, validation = split_documents(len(reader), params.val_fraction, params.seed)
    rows = PackedRows(
        reader,
        train,
        ctx_len=params.ctx_len,
        packing=params.packing,
        loss_mask=params.loss_mask,
        whole=params.infctx,
    )
    notes: list[Problem] = []
    if reader.tokens < params.ctx_len:
        notes.append(Problem("data_short", {"tokens": reader.tokens, "ctx_len": params.ctx_len}))
    if params.val_fraction and not len(validation):
        notes.append(Problem("validation_empty"))
    return RunData(reader, rows, validation, assistant_only, tuple(notes))


class Windows:
    """Iterates over the windows of the steps `first` … `plan.total_steps` on one device."""

    def __init__(
        self, data: RunData, plan: StepPlan, *, seed: int, rank: int, first: int, device: str
    ) -> None:
        self._rows, self._plan = data.rows, plan
        self._order = Permutation(seed, len(data.rows))
        self._rank, self._first, self._device = rank, first, device

    def __len__(self) -> int:
        return self._plan.total_steps - self._first

    def __iter__(self) -> Iterator[Window]:
        for step in range(self._first, self._plan.total_steps):
            yield [
                self._batch(positions) for positions in self._plan.positions(step, self._rank) if positions
            ]

    def _batch(self, positions: list[int]) -> MicroBatch:
        batch = collate([self._rows.row(self._order.at(position)) for position in positions])
        tokens, targets, resets = (
            torch.from_numpy(array).to(self._device) for array in (batch.tokens, batch.targets, batch.resets)
        )
        return MicroBatch(tokens, targets, resets, int((batch.targets >= 0).sum()), batch.read_tokens)

"""Other data mixed into the rows of the main data, so many rows for each of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.contract.params import TrainParams
from trainer.data.binidx import BinidxReader
from trainer.data.packing import PackedRows
from trainer.data.sampling import Permutation


@dataclass(frozen=True, slots=True)
class MixedIn:
    """Data that is mixed in; `quota` of its rows come with each pass over the main data."""

    reader: BinidxReader
    rows: PackedRows
    quota: int


def pack(reader: BinidxReader, documents: np.ndarray, params: TrainParams) -> PackedRows:
    """Rows of some documents as the parameters want them.

    Raises:
        InputError: see `PackedRows`.
    """
    return PackedRows(
        reader,
        documents,
        ctx_len=params.ctx_len,
        packing=params.packing,
        loss_mask=params.loss_mask,
        whole=params.infctx,
    )


def mix_in(prefixes: Sequence[Path], n_main: int, params: TrainParams) -> tuple[MixedIn, ...]:
    """Open what `mix_data` names: a weight is rows for each row of the main data, at least one in all.

    Args:
        prefixes: of the converted data, in the order of `mix_data`.
        n_main: rows of the main data.

    Raises:
        InputError: see `BinidxReader`, `PackedRows`.
    """
    found = []
    for prefix, (_, weight) in zip(prefixes, params.mixed_sources, strict=True):
        reader = BinidxReader(prefix)
        rows = pack(reader, np.arange(len(reader)), params)
        found.append(MixedIn(reader, rows, max(1, round(weight * n_main))))
    return tuple(found)


def rows_per_pass(n_main: int, mixed: Sequence[MixedIn]) -> int:
    """Rows of a pass over the main data with all that is mixed into it."""
    return n_main + sum(source.quota for source in mixed)


class MixedOrder:
    """The endless sequence of passes over the main rows, those mixed in being spread over each pass.

    Every pass has each main row once. The rows of another source come from its own endless sequence of
    permutations, so that none comes again before all have come. With nothing mixed in it is `Permutation`.

    Args:
        seed: not negative.
        n_main: rows of the main data, at least 1.
    """

    def __init__(self, seed: int, n_main: int, mixed: Sequence[MixedIn] = ()) -> None:
        self._n_main = n_main
        self._slots = Permutation(seed, rows_per_pass(n_main, mixed))
        self._mixed = [(Permutation(seed, len(source.rows)), source.quota) for source in mixed]
        self._owner = np.repeat(np.arange(len(mixed)), [source.quota for source in mixed])
        self._pass = -1
        self._drawn = np.zeros(0, dtype=np.int64)

    def at(self, k: int) -> tuple[int | None, int]:
        """What position k >= 0 is: the number of the source mixed in (None: the main data), and its row."""
        slot = self._slots.at(k)
        if slot < self._n_main:
            return None, slot
        number = k // self._slots.n
        if number != self._pass:
            # A whole pass at once: the slots come in no order, and a permutation is costly to make.
            rows = (
                order.at(p)
                for order, quota in self._mixed
                for p in range(number * quota, (number + 1) * quota)
            )
            self._drawn = np.fromiter(rows, dtype=np.int64, count=self._owner.size)
            self._pass = number
        return int(self._owner[slot - self._n_main]), int(self._drawn[slot - self._n_main])

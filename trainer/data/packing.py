"""Documents to rows of `ctx_len` tokens: pieces of documents, each beginning on a multiple of 16.

A document of L tokens has L - 1 targets. It is cut into pieces of `ctx_len` inputs, the targets of a piece
being the inputs shifted by one, so that every token after a document's first is a target exactly once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainer.contract.errors import InputError
from trainer.data.binidx import BinidxReader

ALIGN = 16
IGNORED = -100
LossMask = Literal["all", "assistant"]
_BLOCK_TOKENS = 1 << 22


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence.

    Attributes:
        tokens: int64 [T], T a multiple of `ALIGN`.
        targets: int64 [T], `IGNORED` where nothing is to be learned.
        resets: bool [T / ALIGN]; True where a piece starts: state and token shift are zero there.
        read_tokens: how many of the tokens are the documents' and not padding.
    """

    tokens: np.ndarray
    targets: np.ndarray
    resets: np.ndarray
    read_tokens: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one length: tokens and targets int64 [B, T], resets bool [B, T / ALIGN]."""

    tokens: np.ndarray
    targets: np.ndarray
    resets: np.ndarray
    read_tokens: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """Stretches of documents, int64 [n] each: document, first input within it, number of inputs."""

    document: np.ndarray
    start: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return self.length.size

    def take(self, chosen: np.ndarray) -> Pieces:
        return Pieces(self.document[chosen], self.start[chosen], self.length[chosen])


def cut_documents(documents: np.ndarray, sizes: np.ndarray, ctx_len: int) -> Pieces:
    """Cut documents into pieces of at most `ctx_len` inputs; those of fewer than two tokens give none.

    Args:
        documents: document numbers, int64 [n].
        sizes: tokens of each of them, [n].
    """
    inputs = np.maximum(sizes.astype(np.int64) - 1, 0)
    counts = -(-inputs // ctx_len)
    owner = np.repeat(np.arange(documents.size), counts)
    first = np.cumsum(counts) - counts
    start = (np.arange(owner.size) - first[owner]) * ctx_len
    return Pieces(documents[owner].astype(np.int64), start, np.minimum(inputs[owner] - start, ctx_len))


def best_fit(units: np.ndarray, capacity: int) -> np.ndarray:
    """Assign items to bins, largest first, each to the fullest bin that takes it (best-fit decreasing).

    Items of one size are interchangeable, so they are placed together: time grows with the number of items
    and of distinct sizes, not with the product of items and bins.

    Args:
        units: size of each item, int [n], from 1 to `capacity`.
        capacity: size of a bin.

    Returns:
        int64 [n], the bin of each item; bins are numbered in the order in which they were opened.
    """
    order = np.argsort(-units, kind="stable")
    sizes, firsts, counts = np.unique(units[order], return_index=True, return_counts=True)
    bins = np.zeros(units.size, dtype=np.int64)
    by_room: dict[int, list[np.ndarray]] = {}
    rooms: list[int] = []  # keys of by_room, ascending
    n_bins = 0

    def put_back(room: int, chosen: np.ndarray) -> None:
        if room == 0 or chosen.size == 0:
            return
        if room not in by_room:
            by_room[room] = []
            insort(rooms, room)
        by_room[room].append(chosen)

    for size, first, count in zip(
        sizes[::-1].tolist(), firsts[::-1].tolist(), counts[::-1].tolist(), strict=True
    ):
        items = order[first : first + count]
        while items.size:
            at = bisect_left(rooms, size)
            if at < len(rooms):
                room = rooms.pop(at)
                open_bins = np.concatenate(by_room.pop(room))
            else:
                room = capacity
                n_new = -(-items.size // (capacity // size))
                open_bins = np.arange(n_bins, n_bins + n_new)
                n_bins += n_new
            each = room // size
            full = min(items.size // each, open_bins.size)
            bins[items[: full * each]] = np.repeat(open_bins[:full], each)
            put_back(room - each * size, open_bins[:full])
            items, open_bins = items[full * each :], open_bins[full:]
            if items.size and open_bins.size:
                bins[items] = open_bins[0]
                put_back(room - items.size * size, open_bins[:1])
                items, open_bins = items[:0], open_bins[1:]
            put_back(room, open_bins)
    return bins


class PackedRows:
    """Training rows of a set of documents; which row holds what is a function of the arguments.

    Attributes:
        counted_tokens: targets that count, over all rows.

    Args:
        reader: the tokens.
        documents: document numbers, int64 [n].
        ctx_len: inputs of a row; a row's length is at most this, rounded up to `ALIGN`, unless `whole`.
        packing: fill rows with several pieces; False gives each piece a row of its own.
        loss_mask: "all" counts every target, "assistant" those that the converted data marks.
        whole: give a document of more than `ctx_len` tokens one row of its own length, instead of cutting it.

    Raises:
        InputError: `data_mask_missing`; `data_no_target`, no target counts.
    """

    def __init__(
        self,
        reader: BinidxReader,
        documents: np.ndarray,
        *,
        ctx_len: int,
        packing: bool,
        loss_mask: LossMask,
        whole: bool = False,
    ) -> None:
        self._reader = reader
        self._masked = loss_mask == "assistant"
        if self._masked and reader.all_masks is None:
            raise InputError("data_mask_missing", path=str(reader.prefix))
        documents = np.sort(np.asarray(documents, dtype=np.int64))
        sizes = reader.sizes[documents]
        pieces = cut_documents(documents, sizes, int(sizes.max(initial=ctx_len)) if whole else ctx_len)
        counted = self._counted(pieces)
        # State is never carried between pieces, so one without targets adds nothing to its row.
        pieces, counted = pieces.take(counted > 0), counted[counted > 0]
        if len(pieces) == 0:
            raise InputError("data_no_target", path=str(reader.prefix))
        self.counted_tokens = int(counted.sum())
        units = -(-pieces.length // ALIGN)
        capacity = -(-ctx_len // ALIGN)
        rows = best_fit(np.minimum(units, capacity), capacity) if packing else np.arange(len(pieces))
        order = np.argsort(rows, kind="stable")
        self._pieces = pieces.take(order)
        self._bounds = np.concatenate(([0], np.cumsum(np.bincount(rows))))

    def __len__(self) -> int:
        return self._bounds.size - 1

    def row(self, i: int) -> Row:
        """Row i."""
        chosen = range(int(self._bounds[i]), int(self._bounds[i + 1]))
        lengths = [int(self._pieces.length[p]) for p in chosen]
        width = sum(-(-n // ALIGN) for n in lengths) * ALIGN
        tokens = np.zeros(width, dtype=np.int64)
        targets = np.full(width, IGNORED, dtype=np.int64)
        resets = np.zeros(width // ALIGN, dtype=bool)
        at = 0
        for p, n in zip(chosen, lengths, strict=True):
            document, start = int(self._pieces.document[p]), int(self._pieces.start[p])
            ids = self._reader[document][start : start + n + 1].astype(np.int64)
            tokens[at : at + n] = ids[:-1]
            targets[at : at + n] = ids[1:]
            mask = self._reader.mask(document) if self._masked else None
            if mask is not None:
                targets[at : at + n][mask[start + 1 : start + n + 1] == 0] = IGNORED
            resets[at // ALIGN] = True
            at += -(-n // ALIGN) * ALIGN
        return Row(tokens, targets, resets, sum(lengths))

    def _counted(self, pieces: Pieces) -> np.ndarray:
        """Targets of each piece that count, int64 [n]."""
        masks = self._reader.all_masks if self._masked else None
        if masks is None:
            return pieces.length
        first = self._reader.pointers[pieces.document] + pieces.start + 1
        ends = np.concatenate((first, first + pieces.length))
        before = _ones_before(masks, ends)
        return before[len(pieces) :] - before[: len(pieces)]


def _ones_before(mask: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """How many ones lie before each position; the mask is read once, block by block."""
    order = np.argsort(positions, kind="stable")
    ascending = positions[order]
    counts = np.zeros(positions.size, dtype=np.int64)
    total, done = 0, 0
    for start in range(0, mask.size, _BLOCK_TOKENS):
        sums = np.cumsum(mask[start : start + _BLOCK_TOKENS], dtype=np.int64)
        upto = int(np.searchsorted(ascending, start + sums.size, side="right"))
        inside = ascending[done:upto] - start
        counts[order[done:upto]] = total + np.where(inside > 0, sums[np.maximum(inside, 1) - 1], 0)
        total, done = total + int(sums[-1]), upto
    return counts


def collate(rows: Sequence[Row]) -> Batch:
    """Pad rows to the longest of them; what is added is ignored."""
    width = max(row.tokens.size for row in rows)
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    targets = np.full((len(rows), width), IGNORED, dtype=np.int64)
    resets = np.zeros((len(rows), width // ALIGN), dtype=bool)
    for i, row in enumerate(rows):
        tokens[i, : row.tokens.size] = row.tokens
        targets[i, : row.tokens.size] = row.targets
        resets[i, : row.resets.size] = row.resets
    return Batch(tokens, targets, resets, sum(row.read_tokens for row in rows))

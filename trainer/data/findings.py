"""What is noticed about data while it is converted: shapes, doubtful documents, duplicates."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, ConfigDict

from trainer.contract.data_terms import Remark
from trainer.data.documents import Document
from trainer.data.roles import turns

# Longer than anything that RWKV models are trained on; most often a whole file that was not split.
VERY_LONG_TOKENS = 65_536
# Documents that are compared with each other: 8 bytes of memory each while converting, as much to sort.
MAX_HASHED = 4_000_000
MAX_PLACES = 20
# UTF-8 read as Latin-1 or Windows-1252, as GBK, and what was lost on the way.
_MOJIBAKE = re.compile(
    "\\ufffd|锟斤拷|烫烫烫|ï»¿|â€[™œ\\u009d“”¦\\u0093\\u0094\\u0099]|[Ãâ][\\u0080-\\u00bf]{2}"
    "|Ã[\\u00a0-\\u00bf](?=[a-z])"
)
# What those begin with: looking for a single character is many times as fast.
_MOJIBAKE_STARTS = "\ufffd锟烫ïâÃ"


class Noticed(BaseModel):
    """How many documents a remark is about, and where the first of them begin (lines or files)."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    places: tuple[str, ...] = ()


class Duplicates(BaseModel):
    """Documents of the very tokens of an earlier one.

    Attributes:
        count: documents that repeat an earlier one.
        pairs: the first of them as (document, the earlier one), counted from 1.
        compared: documents that were looked at, from the first on; at most `MAX_HASHED`.
    """

    model_config = ConfigDict(frozen=True)

    count: int = 0
    pairs: tuple[tuple[int, int], ...] = ()
    compared: int = 0


class Findings:
    """Told of every document, in order: `begin`, `add` its tokens, `end`."""

    def __init__(self) -> None:
        self.shapes: Counter[str] = Counter()
        self._counts: Counter[Remark] = Counter()
        self._places: dict[Remark, list[str]] = {}
        self._hashes = array("Q")
        self._remarks: set[Remark] = set()

    def begin(self, document: Document) -> None:
        self.shapes[document.shape] += 1
        self._document, self._remarks, self._tokens = document, set(document.remarks), 0
        self._hash = blake2b(digest_size=8)

    def watch(self, pieces: Iterator[str]) -> Iterator[str]:
        """Pass the pieces of a text on, having looked at each; turns are looked for in the first one."""
        for number, piece in enumerate(pieces):
            self.look_at(piece)
            if number == 0:
                self._remarks |= _remarks_of_turns(piece)
            yield piece

    def look_at(self, text: str) -> None:
        suspicious = not text.isascii() and any(start in text for start in _MOJIBAKE_STARTS)
        if suspicious and _MOJIBAKE.search(text) is not None:
            self._remarks.add("mojibake")

    def add(self, ids: np.ndarray) -> None:
        self._tokens += ids.size
        self._hash.update(ids.astype("<i4", copy=False).data)

    def end(self) -> None:
        if self._tokens > VERY_LONG_TOKENS:
            self._remarks.add("very_long")
        for remark in self._remarks:
            self._counts[remark] += 1
            places = self._places.setdefault(remark, [])
            if len(places) < MAX_PLACES:
                places.append(self._document.place)
        if len(self._hashes) < MAX_HASHED:
            self._hashes.append(int.from_bytes(self._hash.digest(), "little"))

    def remarks(self) -> dict[str, Noticed]:
        return {
            remark: Noticed(count=count, places=tuple(self._places[remark]))
            for remark, count in self._counts.items()
        }

    def duplicates(self) -> Duplicates:
        hashes = np.frombuffer(self._hashes, dtype=np.uint64) if self._hashes else np.zeros(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        ascending = hashes[order]
        first = np.flatnonzero(np.concatenate(([True], ascending[1:] != ascending[:-1])))[: hashes.size]
        repeats = np.setdiff1d(np.arange(hashes.size), first, assume_unique=True)
        later, earlier = order[repeats], order[first[np.searchsorted(first, repeats, "right") - 1]]
        shown = np.argsort(later)[:MAX_PLACES]
        pairs = tuple((int(later[i]) + 1, int(earlier[i]) + 1) for i in shown)
        return Duplicates(count=repeats.size, pairs=pairs, compared=hashes.size)


def _remarks_of_turns(text: str) -> set[Remark]:
    found: set[Remark] = set()
    spoken = turns(text)
    if not spoken:
        return found
    if any(turn.is_answer and turn.is_empty for turn in spoken):
        found.add("empty_answer")
    repeats = any(a.name == b.name for a, b in pairwise(spoken))
    if repeats or spoken[0].is_answer or not spoken[-1].is_answer:
        found.add("unbalanced_roles")
    return found

"""States of prompts already read, so that a conversation's next turn reads only what is new."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """The model after `tokens`: its state, and the logits of the token that follows."""

    tokens: NDArray[np.int32]
    state: Any
    logits: NDArray[np.float32]
    nbytes: int


class PrefixCache:
    """Least-recently-used states by the exact tokens that led to them. For one thread.

    Args:
        max_bytes: of states and logits together.
        max_entries: also a limit, since each look-up tries the lengths that are stored.
    """

    def __init__(self, max_bytes: int = 512 * 2**20, max_entries: int = 64) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, CachedPrefix] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def longest(self, tokens: Sequence[int]) -> CachedPrefix | None:
        """The stored state that has read most of the prompt, or None."""
        prompt = np.asarray(tokens, dtype=np.int32)
        lengths = {entry.tokens.size for entry in self._entries.values() if entry.tokens.size <= prompt.size}
        for length in sorted(lengths, reverse=True):
            key = prompt[:length].tobytes()
            if (entry := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
                return entry
        return None

    def put(self, tokens: Sequence[int], state: Any, logits: NDArray[np.float32], state_bytes: int) -> None:
        """Keep a state; the least recently used ones make room. The state must never change afterwards."""
        stored = np.asarray(tokens, dtype=np.int32)
        nbytes = state_bytes + logits.nbytes + stored.nbytes
        if nbytes > self._max_bytes:
            return
        key = stored.tobytes()
        if (old := self._entries.pop(key, None)) is not None:
            self._nbytes -= old.nbytes
        self._entries[key] = CachedPrefix(stored, state, logits, nbytes)
        self._nbytes += nbytes
        while self._nbytes > self._max_bytes or len(self._entries) > self._max_entries:
            _, dropped = self._entries.popitem(last=False)
            self._nbytes -= dropped.nbytes

"""A text's way through the model, in steps of bounded work, with the states of earlier texts used again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.inference.engine import Engine, State
from trainer.inference.prefix_cache import PrefixCache

# Tokens of a prompt that are read between two looks at other answers and at a wish to stop.
PREFILL_TOKENS = 128
END_OF_DOCUMENT = 0


class Reading:
    """Tokens that the model reads, and its state and logits after those that it has read.

    Args:
        engine: the model.
        tokens: an empty text is the end of a document, after which anything may begin.
        cache: states of earlier texts, read and filled.
        boundaries: numbers of tokens after which the state is worth keeping.
    """

    def __init__(
        self,
        engine: Engine,
        tokens: Sequence[int],
        cache: PrefixCache | None = None,
        boundaries: Sequence[int] = (),
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._tokens = list(tokens) or [END_OF_DOCUMENT]
        self._read = 0
        self.prompt_tokens = len(self._tokens)
        self._stations = sorted({*(b for b in boundaries if 0 < b < self.prompt_tokens), self.prompt_tokens})
        self.state: State = None
        self.logits: NDArray[np.float32] | None = None
        self.cached_tokens = 0

    @property
    def in_prompt(self) -> bool:
        """Whether what was given at first is not read to its end yet."""
        return self._read < self.prompt_tokens

    def step(self) -> None:
        """Read a part of the prompt."""
        if self._read == 0 and self._cache is not None:
            found = self._cache.longest(self._tokens)
            if found is not None:
                self.state, self.logits = found.state, found.logits
                self._read = self.cached_tokens = found.tokens.size
        if not self.in_prompt:
            return
        station = next(s for s in self._stations if s > self._read)
        self._forward(self._tokens[self._read : min(station, self._read + PREFILL_TOKENS)])
        if self._read == station:
            self.remember()

    def append(self, token: int) -> None:
        """Add a token, to be read when its logits are wanted."""
        self._tokens.append(token)

    def next_logits(self) -> NDArray[np.float32]:
        """The logits after the last token, [V]."""
        if self._read < len(self._tokens):
            self._forward(self._tokens[self._read :])
        assert self.logits is not None
        return self.logits

    def remember(self) -> None:
        """Keep the state after what was read, for texts that begin with the same."""
        if self._cache is not None and self.logits is not None:
            size = self._engine.state_bytes(self.state)
            self._cache.put(self._tokens[: self._read], self.state, self.logits, size)

    def _forward(self, tokens: list[int]) -> None:
        self.logits, self.state = self._engine.forward(tokens, self.state)
        self._read += len(tokens)

"""One answer: read the prompt, then sample token by token, with text that streams correctly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.inference.engine import Engine, State
from trainer.inference.prefix_cache import PrefixCache
from trainer.inference.sampling import Sampler, SamplingParams, TokenLogprob
from trainer.inference.text_stream import TextStream

FinishReason = Literal["stop", "length", "cancelled"]
# Tokens of a prompt that are read between two looks at other answers and at a wish to stop.
PREFILL_TOKENS = 128
END_OF_DOCUMENT = 0


class Vocabulary(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """One step of an answer.

    Attributes:
        text: what is certain now; empty while a character or a possible stop text is unfinished.
        token: the sampled token, or None where none belongs to the answer (a stop token, a cancelled end).
        logprob: of the token under the model, before penalties and temperature.
        top: the most likely tokens, if they were asked for.
        finish_reason: set in the last piece only.
    """

    text: str
    token: int | None = None
    logprob: float = 0.0
    top: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


class Generation:
    """An answer as steps of bounded work, so that one thread can serve several in turn.

    Args:
        engine: the model.
        tokenizer: turns tokens into bytes.
        prompt: tokens; an empty prompt is the end of a document, after which anything may begin.
        params: sampling, stops, length.
        cache: states of earlier prompts, read and filled.
        boundaries: numbers of prompt tokens after which the state is worth keeping.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Vocabulary,
        prompt: Sequence[int],
        params: SamplingParams,
        *,
        cache: PrefixCache | None = None,
        boundaries: Sequence[int] = (),
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._params = params
        self._cache = cache
        self._sampler = Sampler(params)
        self._text = TextStream(params.stop)
        self._read = 0
        self._tokens = list(prompt) or [END_OF_DOCUMENT]
        self.prompt_tokens = len(self._tokens)
        self._stations = sorted({*(b for b in boundaries if 0 < b < self.prompt_tokens), self.prompt_tokens})
        self._state: State = None
        self._logits: NDArray[np.float32] | None = None
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.finish_reason: FinishReason | None = None

    @property
    def reading(self) -> bool:
        """Whether the prompt is not read to its end yet."""
        return self._read < self.prompt_tokens

    def step(self) -> Piece | None:
        """Do one unit of work: read a part of the prompt (None), or give the answer's next piece.

        Raises:
            ValueError: the model's logits are not finite.
        """
        if self.reading:
            self._read_prompt()
            return None
        if self._read < len(self._tokens):
            self._forward(self._tokens[self._read :])
        assert self._logits is not None
        sampled = self._sampler.sample(self._logits)
        if sampled.token in self._params.stop_tokens:
            return self._finish("stop")
        self._tokens.append(sampled.token)
        self.completion_tokens += 1
        text = self._text.push(self._tokenizer.decode_bytes([sampled.token]))
        reason: FinishReason | None = None
        if self._text.stopped:
            reason = "stop"
        elif self.completion_tokens >= self._params.max_tokens:
            reason = "length"
        end = self._finish(reason).text if reason else ""
        return Piece(text + end, sampled.token, sampled.logprob, sampled.top, reason)

    def cancel(self) -> Piece:
        """End the answer where it is."""
        return self._finish("cancelled")

    def _read_prompt(self) -> None:
        if self._read == 0 and self._cache is not None:
            found = self._cache.longest(self._tokens)
            if found is not None:
                self._state, self._logits = found.state, found.logits
                self._read = self.cached_tokens = found.tokens.size
        if not self.reading:
            return
        station = next(s for s in self._stations if s > self._read)
        self._forward(self._tokens[self._read : min(station, self._read + PREFILL_TOKENS)])
        if self._read == station:
            self._remember()

    def _forward(self, tokens: list[int]) -> None:
        self._logits, self._state = self._engine.forward(tokens, self._state)
        self._read += len(tokens)

    def _remember(self) -> None:
        if self._cache is not None and self._logits is not None:
            size = self._engine.state_bytes(self._state)
            self._cache.put(self._tokens[: self._read], self._state, self._logits, size)

    def _finish(self, reason: FinishReason) -> Piece:
        self.finish_reason = reason
        self._remember()
        self._state = None
        return Piece(self._text.finish(cut_short=reason != "stop"), finish_reason=reason)


def never() -> bool:
    """The answer to "should it stop?" of whoever never stops anything."""
    return False


def generate(
    engine: Engine,
    tokenizer: Vocabulary,
    prompt: str | Sequence[int],
    params: SamplingParams,
    should_stop: Callable[[], bool] = never,
) -> Iterator[Piece]:
    """Answer a prompt; the pieces' texts together are the answer, the last piece says why it ended.

    Args:
        engine: the model.
        tokenizer: for the prompt and the answer.
        prompt: text, or tokens.
        params: sampling, stops, length.
        should_stop: asked before each token; True ends the answer as "cancelled".
    """
    tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    generation = Generation(engine, tokenizer, tokens, params)
    while generation.finish_reason is None:
        piece = generation.cancel() if should_stop() else generation.step()
        if piece is not None:
            yield piece

"""One answer: read the prompt, then sample token by token, with text that streams correctly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from trainer.inference.engine import Engine
from trainer.inference.prefix_cache import PrefixCache
from trainer.inference.reading import Reading
from trainer.inference.sampling import Sampler, SamplingParams, TokenLogprob
from trainer.inference.text_stream import TextStream

FinishReason = Literal["stop", "length", "cancelled"]


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
        self._tokenizer = tokenizer
        self._params = params
        self._reading = Reading(engine, prompt, cache, boundaries)
        self._sampler = Sampler(params)
        self._text = TextStream(params.stop)
        self.completion_tokens = 0
        self.finish_reason: FinishReason | None = None

    @property
    def reading(self) -> bool:
        """Whether the prompt is not read to its end yet."""
        return self._reading.in_prompt

    @property
    def prompt_tokens(self) -> int:
        return self._reading.prompt_tokens

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt whose state was known from before."""
        return self._reading.cached_tokens

    def step(self) -> Piece | None:
        """Do one unit of work: read a part of the prompt (None), or give the answer's next piece.

        Raises:
            ValueError: the model's logits are not finite.
        """
        if self.reading:
            self._reading.step()
            return None
        sampled = self._sampler.sample(self._reading.next_logits())
        if sampled.token in self._params.stop_tokens:
            return self._finish("stop")
        self._reading.append(sampled.token)
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

    def _finish(self, reason: FinishReason) -> Piece:
        self.finish_reason = reason
        self._reading.remember()
        self._reading.state = None
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

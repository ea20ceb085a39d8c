"""Sample answers of the model that is trained: to prompts that were given, and to held-out documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from trainer.contract.params import TrainParams
from trainer.data.binidx import BinidxReader
from trainer.data.tokenizers import Tokenizer, load_tokenizer
from trainer.inference.engine import NativeEngine
from trainer.inference.generation import generate
from trainer.inference.sampling import SamplingParams
from trainer.models.skeleton import RWKV
from trainer.training.batches import RunData

# Of a held-out document at most so many tokens are read before an answer, the last ones.
PROMPT_TOKENS = 512
# A document without roles is cut in its middle, or here.
CONTINUE_AT = 64
STOP = ("\n\nUser:",)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, its tokens if it comes from data, and what the data answers there."""

    text: str
    tokens: tuple[int, ...] | None = None
    reference: str | None = None


class Sampler:
    """Answers prompts with the model as it is, by the likeliest token: the same way at every step.

    Args:
        params: prompts, how many held-out documents, the length of answers.
        data: whose held-out documents are asked for.
        vocab_size: rows of the model's embedding.
    """

    def __init__(self, params: TrainParams, data: RunData, vocab_size: int) -> None:
        self._max_tokens = params.sample_tokens
        self._vocab = None if params.vocab is None else Path(params.vocab)
        self._vocab_size = vocab_size
        self.prompts: tuple[Prompt, ...] = tuple(Prompt(text) for text in params.sample_prompts)
        if params.sample_heldout:
            chosen = data.validation[: params.sample_heldout].tolist()
            self.prompts += heldout_prompts(data.reader, chosen, self._tokenizer, params.sample_tokens)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        # Data that is converted already needs none, and its vocabulary may not be at hand.
        return load_tokenizer(self._vocab, self._vocab_size)

    def answer(self, model: RWKV, prompt: Prompt) -> str:
        """The answer's text."""
        asked = prompt.text if prompt.tokens is None else prompt.tokens
        return answer(model, self._tokenizer, asked, self._max_tokens)


def answer(model: RWKV, tokenizer: Tokenizer, prompt: str | Sequence[int], max_tokens: int) -> str:
    """What a model answers by the likeliest tokens, up to the next question."""
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0, stop=STOP)
    return "".join(piece.text for piece in generate(NativeEngine(model), tokenizer, prompt, sampling))


def heldout_prompts(
    reader: BinidxReader, documents: Iterable[int], tokenizer: Tokenizer, answer_tokens: int
) -> tuple[Prompt, ...]:
    """Documents up to where their first answer begins, with that answer; those too short to cut are left out.

    Args:
        documents: indices into the reader.
        answer_tokens: of the reference at most.
    """

    def text(ids: np.ndarray) -> str:
        return tokenizer.decode_bytes(ids.tolist()).decode("utf-8", errors="replace")

    found = []
    for index in documents:
        ids = np.asarray(reader[index])[:-1]  # without the end of the document
        start, stop = _answer(ids.size, reader.mask(index))
        if start > 0:
            asked = ids[max(0, start - PROMPT_TOKENS) : start]
            reference = text(ids[start : min(stop, start + answer_tokens)])
            found.append(Prompt(text(asked), tuple(asked.tolist()), reference))
    return tuple(found)


def _answer(size: int, mask: np.ndarray | None) -> tuple[int, int]:
    """Where a document's first answer begins and ends; where it has no roles, a place to go on from."""
    counts = None if mask is None else np.asarray(mask)[:size]
    if counts is None or counts.all() or not counts.any():
        return min(size // 2, CONTINUE_AT), size
    start = int(np.argmax(counts))
    ends = np.flatnonzero(counts[start:] == 0)
    return start, start + int(ends[0]) if ends.size else size

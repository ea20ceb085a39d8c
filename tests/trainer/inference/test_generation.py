from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trainer.data.tokenizers import Tokenizer
from trainer.inference.engine import Engine, State
from trainer.inference.generation import Generation, Piece, generate
from trainer.inference.prefix_cache import PrefixCache
from trainer.inference.reading import PREFILL_TOKENS
from trainer.inference.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0.0, max_tokens=24, stop_tokens=())


class Script:
    """An engine that says given tokens, whatever it reads; its state is the number of them said."""

    vocab_size = 65536
    generation = "7"
    device = "cpu"

    def __init__(self, answer: Sequence[int], prompt_tokens: int) -> None:
        self._answer, self._prompt_tokens = list(answer), prompt_tokens

    def forward(self, tokens: Sequence[int], state: State) -> tuple[np.ndarray, State]:
        read = (state or 0) + len(tokens)
        logits = np.zeros(self.vocab_size, dtype=np.float32)
        logits[self._answer[max(0, read - self._prompt_tokens)]] = 50.0
        return logits, read

    def state_bytes(self, state: State) -> int:
        return 8


def _say(tokenizer: Tokenizer, tokens: Sequence[int], **params: object) -> list[Piece]:
    engine = Script([*tokens, 0], 1)
    return list(generate(engine, tokenizer, [33], SamplingParams(temperature=0.0, **params)))  # type: ignore[arg-type]


def _run(generation: Generation) -> list[Piece]:
    pieces = []
    while generation.finish_reason is None:
        if (piece := generation.step()) is not None:
            pieces.append(piece)
    return pieces


def _tokens(pieces: list[Piece]) -> list[int]:
    return [piece.token for piece in pieces if piece.token is not None]


def test_greedy_is_the_packages_own_loop(engine: Engine, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("User: 你好, who are you?\n\nAssistant:")
    model = engine._model  # type: ignore[attr-defined]
    expected = []
    logits, state = model.forward(list(prompt), None)
    for _ in range(24):
        expected.append(int(logits.argmax()))
        logits, state = model.forward(expected[-1], state)
    assert _tokens(list(generate(engine, tokenizer, prompt, GREEDY))) == expected


def test_a_long_prompt_is_read_in_parts_with_the_same_result(engine: Engine, tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("It was a dark night. " * 60)
    assert len(prompt) > 2 * PREFILL_TOKENS
    whole, _ = engine.forward(prompt, None)
    generation = Generation(engine, tokenizer, prompt, GREEDY)
    steps = 0
    while generation.reading:
        assert generation.step() is None
        steps += 1
    assert steps == -(-len(prompt) // PREFILL_TOKENS)
    piece = generation.step()
    assert piece is not None
    assert piece.token == int(whole.argmax())


def test_the_stop_token_ends_it_and_is_no_part_of_it(tokenizer: Tokenizer) -> None:
    pieces = _say(tokenizer, tokenizer.encode("Hello there"))
    assert "".join(p.text for p in pieces) == "Hello there"
    assert (pieces[-1].finish_reason, pieces[-1].token) == ("stop", None)


def test_the_length_ends_it(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("one two three four")
    pieces = _say(tokenizer, tokens, max_tokens=2)
    assert _tokens(pieces) == tokens[:2]
    assert pieces[-1].finish_reason == "length"


def test_characters_split_over_tokens_come_whole(tokenizer: Tokenizer) -> None:
    singles = {tokenizer.decode_bytes([t])[0]: t for t in range(1, 257)}
    tokens = [singles[byte] for byte in "é世🙂".encode()]
    texts = [piece.text for piece in _say(tokenizer, tokens)]
    assert texts == ["", "é", "", "", "世", "", "", "", "🙂", ""]
    cut = _say(tokenizer, tokens, max_tokens=4)
    assert "".join(piece.text for piece in cut) == "é"


def test_a_stop_text_over_several_tokens(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("Fine.\n\nUser: next")
    pieces = _say(tokenizer, tokens, stop=("\n\nUser:",))
    assert "".join(p.text for p in pieces) == "Fine."
    assert pieces[-1].finish_reason == "stop"
    assert len(_tokens(pieces)) == len(tokenizer.encode("Fine.\n\nUser:"))


def test_held_text_is_given_at_the_end(tokenizer: Tokenizer) -> None:
    pieces = _say(tokenizer, tokenizer.encode("Fine.\n\n"), stop=("\n\nUser:",))
    assert "".join(p.text for p in pieces) == "Fine.\n\n"


def test_it_can_be_stopped(engine: Engine, tokenizer: Tokenizer) -> None:
    seen: list[Piece] = []
    seen.extend(generate(engine, tokenizer, "a", GREEDY, should_stop=lambda: len(seen) == 3))
    assert [p.finish_reason for p in seen] == [None, None, None, "cancelled"]
    assert len(_tokens(seen)) == 3


def test_an_empty_prompt_begins_a_document(engine: Engine, tokenizer: Tokenizer) -> None:
    first = next(iter(generate(engine, tokenizer, "", GREEDY)))
    assert first.token == int(engine.forward([0], None)[0].argmax())


@pytest.mark.parametrize("prompt", ["same", "another prompt, a bit longer"])
def test_seeds(engine: Engine, tokenizer: Tokenizer, prompt: str) -> None:
    def answer(seed: int) -> list[int]:
        params = SamplingParams(top_p=1.0, seed=seed, max_tokens=12, stop_tokens=())
        return _tokens(list(generate(engine, tokenizer, prompt, params)))

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


def test_a_cached_prompt_gives_the_same_answer_without_being_read(
    engine: Engine, tokenizer: Tokenizer
) -> None:
    cache = PrefixCache()
    prompt = tokenizer.encode("User: hello\n\nAssistant:")
    first = Generation(engine, tokenizer, prompt, GREEDY, cache=cache)
    expected = _tokens(_run(first))
    again = Generation(engine, tokenizer, prompt, GREEDY, cache=cache)
    assert _tokens(_run(again)) == expected
    assert (first.cached_tokens, again.cached_tokens) == (0, len(prompt))


def test_the_next_turn_goes_on_from_the_answers_state(engine: Engine, tokenizer: Tokenizer) -> None:
    cache = PrefixCache()
    prompt = tokenizer.encode("User: hello\n\nAssistant:")
    answer = _tokens(_run(Generation(engine, tokenizer, prompt, GREEDY, cache=cache)))
    longer = [*prompt, *answer, *tokenizer.encode("\n\nUser: and?\n\nAssistant:")]
    cached = Generation(engine, tokenizer, longer, GREEDY, cache=cache)
    fresh = Generation(engine, tokenizer, longer, GREEDY)
    assert _tokens(_run(cached)) == _tokens(_run(fresh))
    assert cached.cached_tokens == len(prompt) + len(answer) - 1


def test_states_are_kept_at_boundaries(engine: Engine, tokenizer: Tokenizer) -> None:
    cache = PrefixCache()
    system = tokenizer.encode("System: be kind\n\n")
    for question in ("User: a\n\nAssistant:", "User: b\n\nAssistant:"):
        generation = Generation(
            engine, tokenizer, [*system, *tokenizer.encode(question)], GREEDY, cache=cache,
            boundaries=[len(system)],
        )  # fmt: skip
        _run(generation)
    assert generation.cached_tokens == len(system)

"""Sample answers of real runs: before and after training, to given prompts and to held-out documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainer.contract.errors import ParameterError
from trainer.contract.params import checked
from trainer.data.tokenizers import load_tokenizer
from trainer.training.samples import PROMPT_TOKENS, heldout_prompts


class Reader:
    """Documents and masks in memory, as `BinidxReader` gives them."""

    def __init__(self, *documents: tuple[list[int], list[int] | None]) -> None:
        self._documents = documents

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self._documents[index][0], np.uint16)

    def mask(self, index: int) -> np.ndarray | None:
        mask = self._documents[index][1]
        return None if mask is None else np.array(mask, np.uint8)


def test_a_document_is_cut_where_its_first_answer_begins() -> None:
    tokenizer = load_tokenizer(None, 65536)
    asked, answer, rest = (
        tokenizer.encode(text) for text in ("User: a\n\nAssistant:", " b c d", "\n\nUser: e\n\nAssistant: f")
    )
    ids = [*asked, *answer, *rest, 0]
    mask = [0] * len(asked) + [1] * len(answer) + [0] * len(rest) + [1]
    long = [*tokenizer.encode("x y ") * 400, *answer, 0]
    plain = tokenizer.encode("the sea and the light")
    reader: Any = Reader(
        (ids, mask),
        (long, [0] * (len(long) - len(answer) - 1) + [1] * (len(answer) + 1)),
        (plain, None),
        ([5, 0], None),
    )
    first, second, third = heldout_prompts(reader, range(4), tokenizer, 2)
    assert (first.text, first.tokens) == ("User: a\n\nAssistant:", tuple(asked))
    assert first.reference == tokenizer.decode(answer[:2])
    assert second.tokens is not None
    assert len(second.tokens) == PROMPT_TOKENS
    assert second.tokens[-1] == long[-len(answer) - 2]
    assert third.tokens == tuple(plain[: (len(plain) - 1) // 2])
    whole = heldout_prompts(reader, [0], tokenizer, 100)
    assert whole[0].reference == " b c d"


def test_the_same_questions_before_and_after(run_train: Callable[..., Any]) -> None:
    ran = run_train(
        val_fraction=0.2, sample_heldout=2, sample_prompts=("User: the sea\n\nAssistant:",), sample_tokens=4
    )
    samples = ran.of("sample")
    first = [event for event in samples if event["step"] == 0]
    last = [event for event in samples if event["step"] == ran.step]
    assert [event["prompt"] for event in first] == [event["prompt"] for event in last]
    assert len(first) == 3
    assert [event.get("reference") is None for event in first] == [True, False, False]
    assert all(event["prompt"].endswith("Assistant:") for event in first)
    assert any(a["text"] != b["text"] for a, b in zip(first, last, strict=True))
    before, *later = ran.of("eval")
    assert (before["step"], before["best"], before["before"]) == (0, False, True)
    assert later[0]["loss"] < before["loss"]
    assert later[0]["best"]


def test_held_out_prompts_need_held_out_documents() -> None:
    with pytest.raises(ParameterError):
        checked({"base_model": "b", "data": "d", "sample_heldout": 1})

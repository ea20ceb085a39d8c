from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.contract.errors import InputError
from trainer.contract.params import TrainParams, checked
from trainer.data.binidx import BinidxReader, BinidxWriter, ConvertMeta
from trainer.data.mixing import MixedIn, MixedOrder, mix_in, pack, rows_per_pass
from trainer.data.sampling import Permutation

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`n` documents of ten tokens, each of one number; the last four are the assistant's."""

    def build(name: str, n: int) -> Path:
        with BinidxWriter(tmp_path / name, 1000) as writer:
            for i in range(n):
                writer.add(np.full(10, i + 1), (np.arange(10) >= 6).astype(np.uint8))
                writer.end_document()
            writer.finish(
                ConvertMeta(
                    data_name=name, data_sha256=name, vocab_sha256="1", tokenizer="world", vocab_size=1000,
                    documents=writer.documents, tokens=writer.tokens,
                    assistant_tokens=writer.assistant_tokens, max_token=writer.max_token, skipped=0,
                )
            )  # fmt: skip
        return tmp_path / name

    return build


def params(*mixed: str, **values: Any) -> TrainParams:
    return checked({"base_model": "b", "data": "d", "packing": False, "mix_data": mixed, **values})


def opened(write: Write, weights: dict[int, float], n_main: int) -> tuple[MixedIn, ...]:
    """Sources of so many rows, at these weights."""
    prefixes = [write(f"source{n}", n) for n in weights]
    return mix_in(prefixes, n_main, params(*(f"source{n}={weight}" for n, weight in weights.items())))


def test_each_pass_has_the_main_rows_once_and_the_quotas_of_the_others(write: Write) -> None:
    mixed = opened(write, {7: 0.1, 300: 0.5, 3: 2.5}, 40)
    assert [source.quota for source in mixed] == [4, 20, 100]
    per_pass = rows_per_pass(40, mixed)
    assert per_pass == 164
    order = MixedOrder(5, 40, mixed)
    drawn: list[list[int]] = [[], [], []]
    for number in range(15):
        found = [order.at(k) for k in range(number * per_pass, (number + 1) * per_pass)]
        assert sorted(row for source, row in found if source is None) == list(range(40))
        counts = Counter(source for source, _ in found)
        assert [counts[i] for i in range(3)] == [4, 20, 100]
        for source, row in found:
            if source is not None:
                drawn[source].append(row)
        # Spread over the pass, and not behind the main data: a half of it has about a half of them.
        assert 35 <= sum(source is not None for source, _ in found[:82]) <= 85
    # Over the passes every row of a source comes as often as every other, but for the last round.
    for rows, source in zip(drawn, mixed, strict=True):
        times = Counter(rows)
        assert len(rows) == 15 * source.quota
        assert max(times.values()) - min(times[row] for row in range(len(source.rows))) <= 1


def test_any_position_can_be_asked_for_at_once(write: Write) -> None:
    mixed = opened(write, {7: 0.3, 50: 1.0}, 20)
    order = MixedOrder(9, 20, mixed)
    straight = [order.at(k) for k in range(4 * rows_per_pass(20, mixed))]
    for k in (183, 0, 100, 46, 45, 99):
        assert MixedOrder(9, 20, mixed).at(k) == straight[k] == order.at(k)
    other = MixedOrder(10, 20, mixed)
    assert [other.at(k) for k in range(len(straight))] != straight


def test_with_nothing_mixed_in_the_order_is_that_of_the_main_data() -> None:
    order, plain = MixedOrder(42, 10), Permutation(42, 10)
    assert [order.at(k) for k in range(40)] == [(None, plain.at(k)) for k in range(40)]


def test_a_small_weight_still_gives_a_row(write: Write) -> None:
    assert [source.quota for source in opened(write, {5: 0.001}, 10)] == [1]


def test_every_source_keeps_its_mask(write: Write) -> None:
    (source,) = mix_in([write("m", 3)], 10, params("m=1", loss_mask="assistant"))
    row = source.rows.row(0)
    assert np.flatnonzero(row.targets >= 0).tolist() == [5, 6, 7, 8]
    main = pack(BinidxReader(write("d", 2)), np.arange(2), params(loss_mask="assistant"))
    assert main.counted_tokens == 8


def test_an_empty_source_is_refused_by_name(write: Write) -> None:
    with pytest.raises(InputError) as error:
        opened(write, {0: 1.0}, 10)
    assert error.value.code == "data_empty"
    assert "source0" in error.value.problem.args["path"]

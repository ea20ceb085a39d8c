from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.contract.errors import InputError
from trainer.contract.params import TrainParams, checked
from trainer.data.binidx import BinidxWriter, ConvertMeta
from trainer.training.batches import RunData, Window, Windows, open_data
from trainer.training.schedule import StepPlan

VOCAB = 2000
SIZES = [3 + 11 * i % 90 for i in range(25)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Documents whose tokens are all different; the second half of each is the assistant's."""

    def build(sizes: list[int]) -> Path:
        start = 1
        with BinidxWriter(tmp_path / "d", VOCAB) as writer:
            for size in sizes:
                mask = (np.arange(size) >= size // 2).astype(np.uint8)
                writer.add(np.arange(start, start + size), mask)
                writer.end_document()
                start += size
            writer.finish(
                ConvertMeta(
                    data_name="d", data_sha256="0", vocab_sha256="1", tokenizer="world", vocab_size=VOCAB,
                    documents=writer.documents, tokens=writer.tokens,
                    assistant_tokens=writer.assistant_tokens, max_token=writer.max_token, skipped=0,
                )
            )  # fmt: skip
        return tmp_path / "d"

    return build


def params(**values: Any) -> TrainParams:
    defaults = {"base_model": "b", "data": "d", "ctx_len": 64, "epoch_steps": 0, "epoch_count": 1}
    return checked(defaults | values)


def opened(prefix: Path, world_size: int = 1, **values: Any) -> tuple[RunData, StepPlan]:
    asked = params(**values)
    data = open_data(prefix, asked, VOCAB)
    return data, StepPlan.make(asked, len(data.rows), world_size)


def windows(
    data: RunData, plan: StepPlan, *, rank: int = 0, first: int | None = None, seed: int = 42
) -> Windows:
    start = plan.first_step if first is None else first
    return Windows(data, plan, seed=seed, rank=rank, first=start, device="cpu")


def targets_of(found: list[Window]) -> Counter[int]:
    counted = Counter[int]()
    for window in found:
        for batch in window:
            counted.update(batch.targets[batch.targets >= 0].tolist())
    return counted


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("packing", [True, False])
def test_an_epoch_has_every_target_once_over_all_devices(
    write: Callable[..., Path], world_size: int, packing: bool
) -> None:
    data, plan = opened(write(SIZES), world_size, micro_bsz=2, accumulate_grad_batches=3, packing=packing)
    found = [list(windows(data, plan, rank=rank)) for rank in range(world_size)]
    assert {len(each) for each in found} == {plan.total_steps}
    total = sum((targets_of(each) for each in found), Counter())
    first_tokens = np.cumsum([1, *SIZES[:-1]])
    expected = set(range(1, sum(SIZES) + 1)) - set(first_tokens.tolist())
    assert total == Counter(expected)


def test_a_window_holds_the_micro_batches_of_a_step(write: Callable[..., Path]) -> None:
    data, plan = opened(write(SIZES), micro_bsz=2, accumulate_grad_batches=3)
    made = windows(data, plan)
    assert len(made) == plan.total_steps == len(list(made))
    for window in made:
        assert 1 <= len(window) <= 3
        for batch in window:
            B, T = batch.tokens.shape
            assert (B <= 2, T % 16, T <= 64) == (True, 0, True)
            assert (batch.targets.shape, batch.resets.shape) == ((B, T), (B, T // 16))
            assert (batch.tokens.dtype, batch.targets.dtype, batch.resets.dtype) == (
                torch.int64, torch.int64, torch.bool,
            )  # fmt: skip
            # Every token that is read has a target here; padding has none, and is no token of the data.
            assert batch.read_tokens == batch.counted == int((batch.targets >= 0).sum()) > 0
            assert batch.read_tokens == int((batch.tokens > 0).sum())
            assert bool(batch.resets[:, 0].all())
            # Within a document the target is the token that comes next.
            counts = batch.targets >= 0
            assert torch.equal(batch.targets[counts], batch.tokens[counts] + 1)


def test_it_goes_on_at_any_step_as_if_it_had_never_stopped(write: Callable[..., Path]) -> None:
    data, plan = opened(write(SIZES), micro_bsz=1, accumulate_grad_batches=2, epoch_steps=5, epoch_count=6)
    whole = list(windows(data, plan))
    assert len(whole) == 18
    for first in (1, 3, 10, 18):
        rest = list(windows(data, plan, first=first))
        assert len(rest) == len(windows(data, plan, first=first)) == 18 - first
        for got, expected in zip(rest, whole[first:], strict=True):
            assert [b.tokens.tolist() for b in got] == [b.tokens.tolist() for b in expected]


def test_the_seed_changes_the_order_and_each_epoch_has_its_own(write: Callable[..., Path]) -> None:
    data, plan = opened(write(SIZES), micro_bsz=1, accumulate_grad_batches=1, epoch_count=2)

    def firsts(seed: int) -> list[int]:
        return [int(window[0].tokens[0, 0]) for window in windows(data, plan, seed=seed)]

    half = plan.steps_per_epoch
    assert firsts(1) == firsts(1) != firsts(2)
    assert sorted(firsts(1)) == sorted(firsts(2))
    assert firsts(1)[:half] != firsts(1)[half:]


def test_validation_is_held_back_from_training(write: Callable[..., Path]) -> None:
    data, plan = opened(write(SIZES), val_fraction=0.2)
    assert len(data.validation) == 5
    held_back = {int(token) for i in data.validation for token in data.reader[i]}
    assert not held_back & set(targets_of(list(windows(data, plan))))
    assert data.notes == ()


def test_only_the_assistants_words_count_where_asked(write: Callable[..., Path]) -> None:
    data, plan = opened(write([40, 31]), loss_mask="assistant")
    assert data.assistant_only
    expected = [*range(21, 41), *range(40 + 16, 72)]
    found = list(windows(data, plan))
    assert targets_of(found) == Counter(expected)
    batches = [batch for window in found for batch in window]
    assert (sum(b.counted for b in batches), sum(b.read_tokens for b in batches)) == (20 + 16, 39 + 30)


def test_what_is_short_is_said(write: Callable[..., Path]) -> None:
    data, _ = opened(write([20]), ctx_len=1024, val_fraction=0.5)
    assert [(note.code, note.args) for note in data.notes] == [
        ("data_short", {"tokens": 20, "ctx_len": 1024}),
        ("validation_empty", {}),
    ]


def test_data_that_does_not_fit_is_refused(write: Callable[..., Path]) -> None:
    prefix = write([40, 30])
    with pytest.raises(InputError) as error:
        open_data(prefix, params(), vocab_size=70)  # ids 1 … 70
    assert (error.value.code, error.value.problem.args["token"]) == ("token_beyond_vocab", 70)
    assert open_data(prefix, params(), vocab_size=71).reader.tokens == 70
    prefix.with_name("d.mask").unlink()
    with pytest.raises(InputError) as error:
        open_data(prefix, params(loss_mask="assistant"), VOCAB)
    assert error.value.code == "data_mask_missing"
    with pytest.raises(InputError) as error:
        open_data(write([1, 1]), params(), VOCAB)
    assert error.value.code == "data_no_target"

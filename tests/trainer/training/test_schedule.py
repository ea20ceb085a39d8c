from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.errors import ParameterError
from trainer.contract.params import TrainParams, checked
from trainer.data.sampling import Permutation
from trainer.training.schedule import StepPlan, learning_rate

SCHEDULES = ("constant", "cosine", "exponential", "wsd")


def params(**values: Any) -> TrainParams:
    return checked({"base_model": "b", "data": "d", **values})


def rates(total: int, **values: Any) -> list[float]:
    asked = params(lr_init=1e-4, lr_final=1e-6, **values)
    return [learning_rate(asked, step, total) for step in range(total)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0, 10])
def test_first_and_last_rate(schedule: str, warmup: int) -> None:
    got = rates(101, lr_schedule=schedule, warmup_steps=warmup)
    assert got[warmup] == pytest.approx(1e-4, rel=1e-12)
    assert got[-1] == pytest.approx(1e-4 if schedule == "constant" else 1e-6, rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_linear_and_reaches_the_first_rate(schedule: str) -> None:
    got = rates(101, lr_schedule=schedule, warmup_steps=4)
    assert got[:5] == pytest.approx([0.25e-4, 0.5e-4, 0.75e-4, 1e-4, 1e-4], rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("total", [20, 21, 1000])
def test_behind_the_warm_up_it_never_rises(schedule: str, total: int) -> None:
    got = rates(total, lr_schedule=schedule, warmup_steps=5)
    assert all(later <= earlier for earlier, later in itertools.pairwise(got[5:]))
    assert all(1e-6 * (1 - 1e-9) <= rate <= 1e-4 * (1 + 1e-12) for rate in got[5:])


def test_half_way() -> None:
    assert rates(101, lr_schedule="cosine")[50] == pytest.approx((1e-4 + 1e-6) / 2, rel=1e-12)
    assert rates(101, lr_schedule="exponential")[50] == pytest.approx(1e-5, rel=1e-12)
    stable = rates(101, lr_schedule="wsd")
    assert set(stable[:81]) == {1e-4}
    assert stable[90] == pytest.approx((1e-4 + 1e-6) / 2, rel=1e-9)


def test_a_rate_that_rises_and_runs_of_few_steps() -> None:
    rising = params(lr_init=1e-6, lr_final=1e-4, lr_schedule="cosine")
    assert [learning_rate(rising, step, 3) for step in range(3)] == pytest.approx([1e-6, 50.5e-6, 1e-4])
    for schedule in SCHEDULES:
        assert rates(1, lr_schedule=schedule) == [1e-4]
        # A warm-up longer than the run is cut off by its end.
        assert rates(2, lr_schedule=schedule, warmup_steps=4) == pytest.approx([0.25e-4, 0.5e-4])
    zero = params(lr_init=1e-4, lr_final=0.0, lr_schedule="wsd")
    assert learning_rate(zero, 9, 10) == pytest.approx(0.0, abs=1e-18)


PLANS = {
    "rows": st.integers(1, 60),
    "micro_bsz": st.integers(1, 7),
    "accumulate": st.integers(1, 6),
    "world_size": st.integers(1, 5),
}


def plan_of(rows: int, micro_bsz: int, accumulate: int, world_size: int, **values: Any) -> StepPlan:
    asked = params(micro_bsz=micro_bsz, accumulate_grad_batches=accumulate, **values)
    return StepPlan.make(asked, rows, world_size)


def positions(plan: StepPlan, steps: range) -> list[int]:
    """All positions of some steps over all devices; no micro-batch is larger than asked."""
    out = []
    for step in steps:
        for rank in range(plan.world_size):
            batches = plan.positions(step, rank)
            assert len(batches) <= plan.accumulate
            assert all(len(batch) <= plan.micro_bsz for batch in batches)
            out += [position for batch in batches for position in batch]
    return out


@settings(max_examples=150)
@given(**PLANS)
def test_every_epoch_is_one_pass_over_every_row(**sizes: int) -> None:
    plan = plan_of(**sizes, epoch_steps=0, epoch_count=3)
    order = Permutation(5, plan.rows)
    per = plan.steps_per_epoch
    assert plan.total_steps == 3 * per
    for epoch in range(3):
        steps = range(epoch * per, (epoch + 1) * per)
        assert {plan.epoch(step) for step in steps} == {epoch}
        assert [plan.ends_epoch(step + 1) for step in steps] == [False] * (per - 1) + [True]
        seen = Counter(order.at(position) for position in positions(plan, steps))
        assert seen == Counter(range(plan.rows))


@settings(max_examples=150)
@given(**PLANS, epoch_steps=st.integers(1, 9))
def test_epochs_of_a_number_of_batches_go_on_through_the_passes(epoch_steps: int, **sizes: int) -> None:
    plan = plan_of(**sizes, epoch_steps=epoch_steps, epoch_count=7)
    assert plan.batches_per_epoch == epoch_steps
    got = positions(plan, range(plan.total_steps))
    assert len(got) == 7 * epoch_steps * plan.micro_bsz * plan.world_size
    # No position twice and none left out, so no row comes a second time before all came once.
    assert sorted(got) == list(range(len(got)))
    order = Permutation(5, plan.rows)
    for start in range(0, len(got) - plan.rows + 1, plan.rows):
        assert sorted(order.at(p) for p in range(start, start + plan.rows)) == list(range(plan.rows))


@settings(max_examples=100)
@given(**PLANS, epoch_steps=st.integers(0, 9))
def test_every_device_takes_part_in_every_step(epoch_steps: int, **sizes: int) -> None:
    """Devices wait for each other at every step: they need the same number of them."""
    plan = plan_of(**sizes, epoch_steps=epoch_steps, epoch_count=2)
    for step in range(plan.total_steps):
        assert len({len(plan.positions(step, rank)) for rank in range(plan.world_size)}) == 1
        assert plan.positions(step, 0)[0]  # and no step is without a row


def test_how_batches_fall_on_steps_and_devices() -> None:
    plan = plan_of(rows=11, micro_bsz=2, accumulate=2, world_size=2, epoch_steps=0, epoch_count=2)
    assert (plan.batches_per_epoch, plan.steps_per_epoch, plan.total_steps) == (3, 2, 4)
    assert [plan.positions(step, 0) for step in (0, 1)] == [[[0, 1], [4, 5]], [[8, 9]]]
    assert [plan.positions(step, 1) for step in (0, 1)] == [[[2, 3], [6, 7]], [[10]]]
    assert plan.positions(2, 1) == [[13, 14], [17, 18]]


def test_a_run_that_begins_at_a_later_epoch_goes_on_where_that_one_starts() -> None:
    plan = plan_of(10, 1, 4, 1, epoch_steps=6, epoch_count=5, epoch_begin=3)
    assert (plan.steps_per_epoch, plan.first_step, plan.total_steps) == (2, 6, 10)
    assert plan.positions(plan.first_step, 0)[0] == [18]


def test_a_run_that_would_begin_behind_its_end_is_refused() -> None:
    with pytest.raises(ParameterError) as error:
        params(epoch_begin=5, epoch_count=5)
    assert [(p.code, p.param, p.args) for p in error.value.problems] == [
        ("param_conflict", "epoch_begin", {"with": "epoch_count=5"})
    ]
    assert params(epoch_begin=4, epoch_count=5).epoch_begin == 4

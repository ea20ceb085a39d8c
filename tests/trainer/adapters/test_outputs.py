from __future__ import annotations

import math

import pytest
import torch

from trainer.adapters.outputs import Tally, _finite
from trainer.contract.errors import AppError


def test_sums_are_those_of_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(1000, 1000, generator=generator).bfloat16().float()
    wanted = before + 0.01 * torch.randn(1000, 1000, generator=generator)
    after = wanted.bfloat16().float()
    tally = Tally()
    tally.add("a", before, wanted, after)
    tally.add("b", before, before, before)
    update, lost = (wanted - before).double(), (after - wanted).double()
    assert tally.update == pytest.approx(float(update.square().sum()), rel=1e-5)
    assert tally.lost_share == pytest.approx(float(lost.norm() / update.norm()), rel=1e-4)
    assert tally.max_change == float((after - before).abs().max())
    assert tally.changed == {"a"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_wherever_it_is(dtype: torch.dtype, bad: float) -> None:
    tensor = torch.ones(7, 5, dtype=dtype)
    for index in (0, 17, 34):
        spoilt = tensor.clone()
        spoilt.view(-1)[index] = bad
        with pytest.raises(AppError) as refused:
            _finite("name", spoilt)
        assert refused.value.code == "merge_verify_failed"
    assert _finite("name", tensor) is tensor


def test_large_values_are_finite() -> None:
    tensor = torch.full((300,), 3e38)
    assert _finite("name", tensor) is tensor
    assert _finite("name", -tensor.bfloat16()).dtype == torch.bfloat16

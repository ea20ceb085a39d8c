from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.kernels import dispatch
from trainer.kernels.dispatch import BACKENDS, TOLERANCE, choose, max_error, sample_inputs, self_test
from trainer.kernels.wkv7 import wkv7_chunked, wkv7_reference


@pytest.fixture
def fresh():
    """What was chosen before is kept for the process; not for these tests, nor from them."""
    choose.cache_clear()
    yield
    choose.cache_clear()


def test_every_back_end_passes_on_the_cpu_far_below_the_tolerance() -> None:
    errors = dict(self_test())
    assert list(errors) == list(BACKENDS) == ["chunked", "reference"]
    assert all(0 < error < 3e-6 for error in errors.values()), errors


def test_sample_inputs_are_what_a_model_makes() -> None:
    r, log_w, k, v, a, b = sample_inputs(2, 5, 3, 4, dtype=torch.float64, seed=1)
    assert {tuple(x.shape) for x in (r, log_w, k, v, a, b)} == {(2, 5, 3, 4)}
    assert -math.exp(-0.5) < float(log_w.min()) < float(log_w.max()) < 0
    torch.testing.assert_close(a.norm(dim=-1), torch.ones(2, 5, 3, dtype=torch.float64))
    gate = -b / a
    assert 0 < float(gate.min()) < float(gate.max()) < 1
    again = sample_inputs(2, 5, 3, 4, dtype=torch.float64, seed=1)
    assert torch.equal(again[0], r)
    assert not torch.equal(sample_inputs(2, 5, 3, 4, dtype=torch.float64, seed=2)[0], r)


@pytest.mark.parametrize("grad", [True, False])
def test_the_fastest_right_back_end_is_chosen_with_and_without_gradients(fresh: None, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        name, op = choose("cpu")
    assert (name, op) == ("chunked", wkv7_chunked)


def wrong_output(*args: Any) -> tuple[Tensor, Tensor]:
    y, state = wkv7_chunked(*args)
    return y * (1 + 1e-4), state


def wrong_gradient(*args: Any) -> tuple[Tensor, Tensor]:
    y, state = wkv7_chunked(*args)
    detached = args[2].detach()
    return y + (args[2] - detached) * 1e-3, state


@pytest.mark.parametrize("broken", [wrong_output, wrong_gradient])
def test_a_wrong_back_end_is_passed_over(fresh: None, monkeypatch: pytest.MonkeyPatch, broken: Any) -> None:
    assert max_error(broken) > TOLERANCE
    monkeypatch.setattr(dispatch, "BACKENDS", {"broken": broken, "reference": wkv7_reference})
    assert choose("cpu") == ("reference", wkv7_reference)


def test_no_right_back_end_stops_everything(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKENDS", {"broken": wrong_output})
    with pytest.raises(RuntimeError, match="cpu"):
        choose("cpu")

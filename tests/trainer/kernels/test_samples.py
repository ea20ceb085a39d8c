from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainer.kernels.samples import sample_wkv4, sample_wkv7, sample_wkv56


@pytest.mark.parametrize("sample", [sample_wkv4, sample_wkv56, sample_wkv7])
def test_samples_are_repeatable_float64(sample: Callable[..., Any]) -> None:
    inputs, state = sample(2, 5, 3, 4, seed=1)
    again, same_state = sample(2, 5, 3, 4, seed=1)
    assert {x.dtype for x in (*inputs, state)} == {torch.float64}
    assert all(torch.equal(x, y) for x, y in zip((*inputs, state), (*again, same_state), strict=True))
    assert not torch.equal(sample(2, 5, 3, 4, seed=2)[0][0], inputs[0])


def test_4_has_channels_and_a_state_that_has_read() -> None:
    (k, v, log_w, u), state = sample_wkv4(2, 5, 3, 4)
    assert [tuple(x.shape) for x in (k, v, log_w, u, state)] == [(2, 5, 12)] * 2 + [(12,)] * 2 + [(2, 3, 12)]
    assert float(log_w.max()) < 0
    aa, bb, pp = state.unbind(1)
    assert float(bb.min()) > 0
    assert bool((aa / bb).isfinite().all())
    assert float(pp.abs().max()) < 20


def test_5_and_6_forget_slowly_and_at_once() -> None:
    inputs, state = sample_wkv56(2, 50, 3, 4)
    assert [tuple(x.shape) for x in inputs] == [(2, 50, 3, 4)] * 4 + [(3, 4)]
    assert state.shape == (2, 3, 4, 4)
    log_w = inputs[1]
    assert float(log_w.min()) < -30
    assert -0.001 < float(log_w.max()) < 0


def test_7_has_normalised_keys_and_a_bounded_decay() -> None:
    (r, log_w, k, v, a, b), state = sample_wkv7(2, 5, 3, 4)
    assert {tuple(x.shape) for x in (r, log_w, k, v, a, b)} == {(2, 5, 3, 4)}
    assert state.shape == (2, 3, 4, 4)
    assert -math.exp(-0.5) < float(log_w.min()) < float(log_w.max()) < 0
    torch.testing.assert_close(a.norm(dim=-1), torch.ones(2, 5, 3, dtype=torch.float64))
    gate = -b / a
    assert 0 < float(gate.min()) < float(gate.max()) < 1

from __future__ import annotations

from shutil import which
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.kernels import dispatch
from trainer.kernels.dispatch import OPERATIONS, TOLERANCE, Operation, choose, max_error, self_test
from trainer.kernels.native.build import COMPILERS, NativeUnavailableError

# "native" needs a C compiler.
HERE = [name for name in ("native", "chunked", "reference") if name != "native" or any(map(which, COMPILERS))]
EACH = pytest.mark.parametrize("operation", list(OPERATIONS))


@pytest.fixture
def fresh():
    """What was chosen before is kept for the process; not for these tests, nor from them."""
    dispatch._choose.cache_clear()
    yield
    dispatch._choose.cache_clear()


def with_backends(operation: str, **backends: Any) -> dict[str, Operation]:
    known = OPERATIONS[operation]
    return {operation: Operation(known.sample, known.reference, backends)}


@EACH
def test_every_back_end_passes_on_the_cpu_far_below_the_tolerance(operation: str) -> None:
    errors = dict(self_test(operation))
    assert list(errors) == HERE
    assert all(0 < error < 3e-6 for error in errors.values()), errors


@EACH
@pytest.mark.parametrize("grad", [True, False])
def test_the_fastest_right_back_end_is_chosen_with_and_without_gradients(
    fresh: None, operation: str, grad: bool
) -> None:
    with torch.set_grad_enabled(grad):
        name, op = choose(operation, "cpu")
    assert (name, op) == (HERE[0], OPERATIONS[operation].backends[HERE[0]])


def broken(operation: str, *, in_gradient: bool) -> Any:
    right = OPERATIONS[operation].reference

    def op(*args: Any) -> tuple[Tensor, Tensor]:
        y, state = right(*args)
        if not in_gradient:
            return y * (1 + 1e-4), state
        return y + (args[1] - args[1].detach()).mean() * 1e-1, state

    return op


@EACH
@pytest.mark.parametrize("in_gradient", [False, True])
def test_a_wrong_back_end_is_passed_over_and_named(
    fresh: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    in_gradient: bool,
) -> None:
    wrong, right = broken(operation, in_gradient=in_gradient), OPERATIONS[operation].reference
    assert max_error(operation, wrong) > TOLERANCE
    monkeypatch.setattr(dispatch, "OPERATIONS", with_backends(operation, broken=wrong, reference=right))
    assert choose(operation, "cpu") == ("reference", right)
    assert [operation in record.message and "'broken'" in record.message for record in caplog.records] == [
        True
    ]


@EACH
def test_a_back_end_that_cannot_run_is_passed_over(
    fresh: None, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def absent(*_: Any) -> Any:
        raise NativeUnavailableError("not here")

    right = OPERATIONS[operation].reference
    monkeypatch.setattr(dispatch, "OPERATIONS", with_backends(operation, absent=absent, reference=right))
    assert choose(operation, "cpu") == ("reference", right)
    assert [name for name, _ in self_test(operation)] == ["reference"]


@EACH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_each_type_is_tested_as_exactly_as_it_is(fresh: None, operation: str, dtype: torch.dtype) -> None:
    assert choose(operation, "cpu", dtype)[0] == HERE[0]


@EACH
def test_no_right_back_end_stops_everything(
    fresh: None, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    wrong = broken(operation, in_gradient=False)
    monkeypatch.setattr(dispatch, "OPERATIONS", with_backends(operation, broken=wrong))
    with pytest.raises(RuntimeError, match=rf"{operation}.*cpu"):
        choose(operation, "cpu")

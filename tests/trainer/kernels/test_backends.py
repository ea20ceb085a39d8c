"""What every form of every recurrence must do, in the precision and with the head sizes of real models."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from shutil import which

import pytest
import torch
from torch import Tensor

from trainer.kernels.chunks import CHUNK, chunk_count
from trainer.kernels.dispatch import OPERATIONS, Wkv
from trainer.kernels.native.build import COMPILERS

NEEDS_COMPILER = pytest.mark.skipif(not any(map(which, COMPILERS)), reason="no C compiler here")
NEEDS = {
    "native": [NEEDS_COMPILER],
    "triton": [pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")],
    "fla": [pytest.mark.skip(reason="fla-core runs on GPUs only")],
}
EACH = pytest.mark.parametrize(
    ("name", "form"),
    [
        pytest.param(name, form, marks=NEEDS.get(form, []))
        for name, operation in OPERATIONS.items()
        for form in operation.backends
    ],
)
pytestmark = pytest.mark.usefixtures("interpreted")
B, H = 2, 3


def sample(name: str, T: int, N: int, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    inputs, state = OPERATIONS[name].sample(B, T, H, N)
    return [x.to(dtype) for x in inputs], state.to(dtype)


def some_resets(T: int) -> Tensor:
    chunks = torch.arange(chunk_count(T))
    return torch.stack((chunks % 3 == 1, chunks % 2 == 0))


def results(op: Wkv, inputs: list[Tensor], state: Tensor, resets: Tensor | None) -> list[Tensor]:
    """Outputs and the gradients of everything, for gradients at the outputs that all differ."""
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    y, final = op(*leaves, resets)
    weights = [torch.cos(torch.arange(x.numel(), dtype=torch.float64)).view(x.shape) for x in (y, final)]
    sum((x * w.to(x)).sum() for x, w in zip((y, final), weights, strict=True)).backward()  # type: ignore[union-attr]
    return [y.detach(), final.detach(), *(x.grad for x in leaves if x.grad is not None)]


@lru_cache
def exact(name: str, T: int, N: int, with_resets: bool) -> list[Tensor]:
    inputs, state = sample(name, T, N, torch.float64)
    return results(OPERATIONS[name].reference, inputs, state, some_resets(T) if with_resets else None)


@EACH
@pytest.mark.parametrize("N", [8, 64])
@pytest.mark.parametrize("T", [1, 17, 100])
@pytest.mark.parametrize("with_resets", [False, True])
def test_outputs_and_gradients_are_those_of_float64(
    name: str, form: str, T: int, N: int, with_resets: bool
) -> None:
    op = OPERATIONS[name].backends[form]
    inputs, state = sample(name, T, N)
    got = results(op, inputs, state, some_resets(T) if with_resets else None)
    for one, other in zip(got, exact(name, T, N, with_resets), strict=True):
        assert float((one.double() - other).norm()) <= 1e-5 * float(other.norm())


@EACH
def test_a_head_larger_than_usual_and_float64_go_through(name: str, form: str) -> None:
    op = OPERATIONS[name].backends[form]
    for N, dtype, limit in ((80, torch.float32, 1e-5), (64, torch.float64, 1e-9)):
        got = results(op, *sample(name, 33, N, dtype), None)
        for one, other in zip(got, exact(name, 33, N, False), strict=True):
            assert one.dtype == dtype
            assert float((one.double() - other).norm()) <= limit * float(other.norm())


@EACH
def test_the_state_carries_over_a_cut_anywhere(name: str, form: str) -> None:
    op = OPERATIONS[name].backends[form]
    inputs, state = sample(name, 40, 64)
    y, final = op(*inputs, state)
    by_token = [x.dim() > 2 for x in inputs]
    for cut in (1, 16, 21, 39):
        first, middle = op(*(x[:, :cut] if t else x for x, t in zip(inputs, by_token, strict=True)), state)
        second, end = op(*(x[:, cut:] if t else x for x, t in zip(inputs, by_token, strict=True)), middle)
        torch.testing.assert_close(torch.cat((first, second), 1), y, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(end, final, rtol=1e-4, atol=1e-5)


@EACH
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, where it plays a kernel
def test_what_is_not_a_number_is_seen_in_later_outputs(name: str, form: str, bad: float) -> None:
    op = OPERATIONS[name].backends[form]
    inputs, state = sample(name, 40, 64)
    v = inputs[1 if name == "wkv4" else 3]
    v[0, 20] = bad
    y, final = op(*inputs, state)
    assert bool(y[:, :CHUNK].isfinite().all())
    assert not bool(y[0, 20].isfinite().any())
    assert not bool(final[0, 0].isfinite().all())
    assert bool(y[1].isfinite().all())


@EACH
def test_the_number_of_threads_changes_no_bit(name: str, form: str) -> None:
    if form == "triton":
        pytest.skip("a GPU's threads are not set")
    op = OPERATIONS[name].backends[form]
    inputs, state = sample(name, 100, 64)
    before, out = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out.append(results(op, inputs, state, some_resets(100)))
    finally:
        torch.set_num_threads(before)
    if form == "native":  # what PyTorch's own products do with threads is not ours
        assert all(torch.equal(x, y) for other in out[1:] for x, y in zip(out[0], other, strict=True))


@EACH
def test_tensors_that_are_not_contiguous(name: str, form: str) -> None:
    op = OPERATIONS[name].backends[form]
    inputs, state = sample(name, 20, 64)
    apart = [x.repeat_interleave(2, -1)[..., ::2] for x in inputs]
    for one, other in zip(op(*apart, state), op(*inputs, state), strict=True):
        assert torch.equal(one, other)


@EACH
def test_only_what_asks_for_a_gradient_gets_one(name: str, form: str) -> None:
    op = OPERATIONS[name].backends[form]
    inputs, state = sample(name, 20, 64)
    inputs[0].requires_grad_()
    y, _ = op(*inputs, state)
    y.sum().backward()
    assert inputs[0].grad is not None
    assert all(x.grad is None for x in (*inputs[1:], state))

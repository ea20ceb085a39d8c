from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainer.kernels.chunks import CHUNK
from trainer.kernels.dispatch import Wkv
from trainer.kernels.samples import sample_wkv4
from trainer.kernels.wkv4 import NOTHING, wkv4_chunked, wkv4_reference

FORMS = pytest.mark.parametrize("op", [wkv4_reference, wkv4_chunked])
LENGTHS = pytest.mark.parametrize("T", [1, 15, 16, 17, 100])
NAMES = ("k", "v", "log_w", "u", "state")


def fill(start: float, *shape: int) -> Tensor:
    """sin(start + 0.7 (i + 1)) in row-major order."""
    index = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(start + 0.7 * index).view(shape)


def quantities(state: Tensor) -> Tensor:
    """Numerator and denominator themselves, which do not depend on the scale that a form has chosen."""
    aa, bb, pp = state.unbind(1)
    return torch.stack((aa * pp.exp(), bb * pp.exp()), 1)


@FORMS
def test_test_vector(op: Wkv) -> None:
    y, final = op(fill(3, 1, 3, 2), fill(4, 1, 3, 2), -fill(1, 2).exp(), fill(2, 2))
    expected = torch.tensor([-0.999923, -0.772764, -0.584624, -0.066344, 0.715158, 0.784849])
    torch.testing.assert_close(y.flatten().float(), expected, rtol=0, atol=1e-6)
    expected = torch.tensor([0.931909, 0.957759, 1.023728, 1.043257, 0.21512, 0.793668])
    torch.testing.assert_close(final.flatten().float(), expected, rtol=0, atol=1e-6)


@FORMS
def test_the_weighted_mean_as_it_is_defined(op: Wkv) -> None:
    (k, v, log_w, u), _ = sample_wkv4(1, 20, 1, 3, seed=2)
    y, _ = op(k, v, log_w, u)
    for t in (0, 1, 19):
        weights = torch.stack([(t - 1 - j) * log_w + k[0, j] for j in range(t)] + [u + k[0, t]]).exp()
        mean = (weights * v[0, : t + 1]).sum(0) / weights.sum(0)
        torch.testing.assert_close(y[0, t], mean, rtol=0, atol=1e-12)


def differentiated(op: Wkv, inputs: list[Tensor], state: Tensor, resets: Tensor | None) -> dict[str, Tensor]:
    """Outputs and the gradients of everything, for gradients at the outputs that all differ."""
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    y, final = op(*leaves[:4], leaves[4], resets)
    weighted = (y * fill(1, *y.shape).to(y.dtype)).sum()
    # Read as a later token would read it, so that no scale is too large for fp32.
    aa, bb, pp = final.unbind(1)
    past = (pp - pp.detach()).exp()
    read = (past * aa + 0.3) / (past * bb + 0.5)
    (weighted + (read * fill(2, *read.shape).to(y.dtype)).sum()).backward()
    grads = {name: leaf.grad for name, leaf in zip(NAMES, leaves, strict=True)}
    assert all(grad is not None for grad in grads.values())
    return {"y": y.detach(), "final": final.detach()} | {k: v for k, v in grads.items() if v is not None}


def relative(got: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    out = {}
    for name, value in expected.items():
        norm = float(value.norm())
        error = float((got[name].double() - value).norm())
        out[name] = error / norm if norm else error
    return out


def case(T: int, kind: str) -> tuple[list[Tensor], Tensor, Tensor | None]:
    inputs, state = sample_wkv4(2, T, 3, 8, seed=T)
    resets = None
    if kind == "resets":
        blocks = -(-T // CHUNK)
        resets = torch.stack((torch.arange(blocks) % 2 == 1, torch.arange(blocks) % 3 == 0))
    elif kind == "fastest decay":
        inputs[2] = torch.full_like(inputs[2], -600.0)
    elif kind == "slowest decay":
        inputs[2] = torch.full_like(inputs[2], -1e-6)
    elif kind == "large keys":  # e^k itself would be out of range, in fp32 and in float64
        inputs[0] = inputs[0] + 800.0
    return inputs, state, resets


@LENGTHS
@pytest.mark.parametrize("kind", ["plain", "resets", "fastest decay", "slowest decay", "large keys"])
def test_chunked_equals_reference_with_all_gradients(T: int, kind: str) -> None:
    inputs, state, resets = case(T, kind)
    expected = differentiated(wkv4_reference, inputs, state, resets)
    in_double = relative(differentiated(wkv4_chunked, inputs, state, resets), expected)
    assert max(in_double.values()) < 1e-9, in_double
    # The same fp32 numbers for both; fp32 adds the bonus to an exponent of 800 in steps of 6e-5.
    inputs, state = [x.float() for x in inputs], state.float()
    expected = differentiated(wkv4_reference, [x.double() for x in inputs], state.double(), resets)
    in_single = relative(differentiated(wkv4_chunked, inputs, state, resets), expected)
    assert max(in_single.values()) < (1e-3 if kind == "large keys" else 1e-5), in_single


@FORMS
def test_gradients_against_finite_differences(op: Wkv) -> None:
    inputs, state = sample_wkv4(1, 18, 1, 2, seed=4)
    resets = torch.tensor([[False, True]])
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]

    def outputs(*x: Tensor, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        y, final = op(*x[:4], x[4], starts)
        return y, quantities(final)

    assert torch.autograd.gradcheck(lambda *x: outputs(*x, starts=None), leaves, fast_mode=False)
    assert torch.autograd.gradcheck(lambda *x: outputs(*x, starts=resets), leaves, fast_mode=False)


@FORMS
def test_resets_equal_documents_run_separately(op: Wkv) -> None:
    T, starts = 80, (0, 32, 48)
    inputs, _ = sample_wkv4(1, T, 2, 4, seed=5)
    k, v, log_w, u = inputs
    resets = torch.zeros(1, T // CHUNK, dtype=torch.bool)
    resets[0, [start // CHUNK for start in starts]] = True
    noise = torch.full((1, 3, 8), 9.0, dtype=torch.float64)  # must not be seen: a document starts at token 0
    y, final = op(*inputs, noise, resets)
    last = None
    for start, end in zip(starts, (*starts[1:], T), strict=True):
        alone, last = op(k[:, start:end], v[:, start:end], log_w, u)
        torch.testing.assert_close(y[:, start:end], alone, rtol=0, atol=1e-12)
    assert last is not None
    torch.testing.assert_close(quantities(final), quantities(last), rtol=1e-12, atol=0)


@FORMS
def test_the_state_carries_over_any_cut(op: Wkv) -> None:
    (k, v, log_w, u), _ = sample_wkv4(2, 50, 2, 4, seed=6)
    y, final = wkv4_reference(k, v, log_w, u)
    for cut in (1, 16, 21, 49):
        first, state = op(k[:, :cut], v[:, :cut], log_w, u)
        second, end = op(k[:, cut:], v[:, cut:], log_w, u, state)
        torch.testing.assert_close(torch.cat((first, second), 1), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(quantities(end), quantities(final), rtol=1e-12, atol=0)


@FORMS
def test_a_state_of_nothing_is_no_state(op: Wkv) -> None:
    inputs, _ = sample_wkv4(1, 3, 1, 4)
    nothing = torch.tensor([0.0, 0.0, NOTHING], dtype=torch.float64).view(1, 3, 1).expand(1, 3, 4)
    without, with_it = op(*inputs), op(*inputs, nothing)
    assert torch.equal(with_it[0], without[0])
    assert torch.equal(with_it[1], without[1])
    assert torch.equal(with_it[0][:, 0], inputs[1][:, 0])  # the first token sees itself only


@FORMS
def test_16_bit_inputs_are_computed_in_fp32(op: Wkv) -> None:
    k, v, log_w, u = (x.float() for x in sample_wkv4(1, 40, 2, 8, seed=8)[0])
    k, v = k.bfloat16(), v.bfloat16()
    y, final = op(k, v, log_w, u)  # as the model calls it: decay and bonus stay fp32
    exact, exact_final = wkv4_reference(*(x.double() for x in (k, v, log_w, u)))
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    assert float((final.double() - exact_final).norm() / exact_final.norm()) < 1e-6
    assert float((y.double() - exact).norm() / exact.norm()) < 3e-3  # one rounding to bf16


def test_autocast_does_not_reach_the_recurrence() -> None:
    inputs = [x.float() for x in sample_wkv4(1, 40, 2, 8, seed=9)[0]]
    outside, _ = wkv4_chunked(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = wkv4_chunked(*inputs)
    assert torch.equal(inside, outside)

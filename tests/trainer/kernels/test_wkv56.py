from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.chunks import CHUNK
from trainer.kernels.dispatch import Wkv
from trainer.kernels.samples import sample_wkv56
from trainer.kernels.wkv56 import wkv56_chunked, wkv56_reference

FORMS = pytest.mark.parametrize("op", [wkv56_reference, wkv56_chunked])
LENGTHS = pytest.mark.parametrize("T", [1, 15, 16, 17, 100])
NAMES = ("r", "log_w", "k", "v", "u", "state")


def fill(start: float, *shape: int) -> Tensor:
    """sin(start + 0.7 (i + 1)) in row-major order."""
    index = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(start + 0.7 * index).view(shape)


# Computed by the plain recurrence and its analytic gradients, for a gradient of 1 at every output.
VECTOR = {
    "y": [1.190918, 1.527546, -0.537697, -0.407078, -1.78611, -1.271585],
    "final": [-0.091094, -0.523152, 0.064475, -0.021068],
    "r": [1.652217, 1.598929, -0.357379, 1.519822, 1.646653, 1.639068],
    "k": [1.326667, 1.021729, 1.282973, 1.220236, 1.55183, 0.904917],
    "v": [-0.206486, -0.206486, 1.629284, 1.629284, -1.159875, -1.159875],
    "decay": [0.115998, 0.347644, 0.087718, 0.348562, -0.249084, -0.325937],
    "u": [0.115196, -0.517715],
    "state": [0.749795, 0.749795, 0.191218, 0.191218],
}


@FORMS
def test_test_vector(op: Wkv) -> None:
    r, k, v, decay = (fill(s, 1, 3, 1, 2).requires_grad_() for s in (1, 2, 3, 4))
    u, state = fill(5, 1, 2).requires_grad_(), fill(6, 1, 1, 2, 2).requires_grad_()
    y, final = op(r, -decay.exp(), k, v, u, state)
    (y.sum() + final.sum()).backward()
    leaves = {"r": r, "decay": decay, "k": k, "v": v, "u": u, "state": state}
    got = {"y": y, "final": final} | {name: leaf.grad for name, leaf in leaves.items()}
    for name, expected in VECTOR.items():
        torch.testing.assert_close(
            got[name].detach().flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6
        )


def differentiated(op: Wkv, inputs: list[Tensor], state: Tensor, resets: Tensor | None) -> dict[str, Tensor]:
    """Outputs and the gradients of everything, for gradients at the outputs that all differ."""
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    y, final = op(*leaves[:5], leaves[5], resets)
    ((y * fill(1, *y.shape).to(y.dtype)).sum() + (final * fill(2, *final.shape).to(y.dtype)).sum()).backward()
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


def case(T: int, kind: str, N: int = 8) -> tuple[list[Tensor], Tensor, Tensor | None]:
    inputs, state = sample_wkv56(2, T, 3, N, seed=T)
    resets, steps = None, torch.arange(T).view(1, T, 1, 1)
    if kind == "resets":
        blocks = -(-T // CHUNK)
        resets = torch.stack((torch.arange(blocks) % 2 == 1, torch.arange(blocks) % 3 == 0))
    elif kind == "constant decay":
        inputs[1] = inputs[1][0, 0]
    elif kind == "fastest decay":
        inputs[1] = torch.full_like(inputs[1], -623.0)
    elif kind == "slowest decay":
        inputs[1] = torch.full_like(inputs[1], -1e-6)
    elif kind == "fast and slow by turns":
        # A sum over the whole chunk would drown the small decays in the rounding of the large ones.
        inputs[1] = torch.where(steps % 5 == 1, -600.0, inputs[1] * 1e-3)
    return inputs, state, resets


KINDS = ["plain", "resets", "constant decay", "fastest decay", "slowest decay", "fast and slow by turns"]


@LENGTHS
@pytest.mark.parametrize("kind", KINDS)
def test_chunked_equals_reference_with_all_gradients(T: int, kind: str) -> None:
    inputs, state, resets = case(T, kind)
    expected = differentiated(wkv56_reference, inputs, state, resets)
    in_double = relative(differentiated(wkv56_chunked, inputs, state, resets), expected)
    assert max(in_double.values()) < 1e-9, in_double
    single = [x.float() for x in inputs]
    in_single = relative(differentiated(wkv56_chunked, single, state.float(), resets), expected)
    assert max(in_single.values()) < 1e-5, in_single


def test_chunked_keeps_its_digits_at_the_head_size_of_the_public_models() -> None:
    inputs, state, resets = case(100, "fast and slow by turns", N=64)
    expected = differentiated(wkv56_reference, inputs, state, resets)
    single = [x.float() for x in inputs]
    got = relative(differentiated(wkv56_chunked, single, state.float(), resets), expected)
    assert max(got.values()) < 1e-5, got


@FORMS
@pytest.mark.parametrize("constant", [False, True])
def test_gradients_against_finite_differences(op: Wkv, constant: bool) -> None:
    inputs, state = sample_wkv56(1, 18, 1, 2, seed=4)
    if constant:
        inputs[1] = inputs[1][0, 0]
    resets = torch.tensor([[False, True]])
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    # The state is forgotten at the reset, so its way into the outputs is the first block only.
    assert torch.autograd.gradcheck(lambda *x: op(*x[:5], x[5], resets), leaves, fast_mode=False)


@FORMS
def test_resets_equal_documents_run_separately(op: Wkv) -> None:
    T, starts = 80, (0, 32, 48)
    (r, log_w, k, v, u), noise = sample_wkv56(1, T, 2, 4, seed=5)
    resets = torch.zeros(1, T // CHUNK, dtype=torch.bool)
    resets[0, [start // CHUNK for start in starts]] = True
    y, final = op(r, log_w, k, v, u, noise * 100, resets)  # must not be seen: a document starts at token 0
    last = None
    for start, end in zip(starts, (*starts[1:], T), strict=True):
        alone, last = op(*(x[:, start:end] for x in (r, log_w, k, v)), u)
        torch.testing.assert_close(y[:, start:end], alone, rtol=0, atol=1e-12)
    assert last is not None
    torch.testing.assert_close(final, last, rtol=0, atol=1e-12)


@FORMS
def test_the_state_carries_over_any_cut(op: Wkv) -> None:
    (*inputs, u), _ = sample_wkv56(2, 50, 2, 4, seed=6)
    y, final = wkv56_reference(*inputs, u)
    for cut in (1, 16, 21, 49):
        first, state = op(*(x[:, :cut] for x in inputs), u)
        second, end = op(*(x[:, cut:] for x in inputs), u, state)
        torch.testing.assert_close(torch.cat((first, second), 1), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(end, final, rtol=0, atol=1e-12)


def test_padding_to_a_whole_chunk_leaves_the_state_as_it_is() -> None:
    (*inputs, u), state = sample_wkv56(1, 5, 2, 4, seed=7)
    y, final = wkv56_chunked(*inputs, u, state)
    padded = [F.pad(x, (0, 0, 0, 0, 0, 27)) for x in inputs]  # tokens without decay and without key
    y_padded, final_padded = wkv56_chunked(*padded, u, state)
    assert y.shape == (1, 5, 2, 4)
    torch.testing.assert_close(final_padded, final, rtol=0, atol=1e-13)
    torch.testing.assert_close(y_padded[:, :5], y, rtol=0, atol=1e-13)


@FORMS
def test_16_bit_inputs_are_computed_in_fp32(op: Wkv) -> None:
    r, log_w, k, v, u = (x.float() for x in sample_wkv56(1, 40, 2, 8, seed=8)[0])
    r, k, v = (x.bfloat16() for x in (r, k, v))
    y, final = op(r, log_w, k, v, u)  # as the model calls it: decay and bonus stay fp32
    exact, exact_final = wkv56_reference(*(x.double() for x in (r, log_w, k, v, u)))
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    assert float((final.double() - exact_final).norm() / exact_final.norm()) < 1e-6
    assert float((y.double() - exact).norm() / exact.norm()) < 3e-3  # one rounding to bf16


def test_autocast_does_not_reach_the_recurrence() -> None:
    inputs = [x.float() for x in sample_wkv56(1, 40, 2, 8, seed=9)[0]]
    outside, _ = wkv56_chunked(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = wkv56_chunked(*inputs)
    assert torch.equal(inside, outside)

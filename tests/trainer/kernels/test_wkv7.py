from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.chunks import CHUNK
from trainer.kernels.dispatch import Wkv
from trainer.kernels.samples import sample_wkv7
from trainer.kernels.wkv7 import wkv7_chunked, wkv7_reference

FORMS = pytest.mark.parametrize("op", [wkv7_reference, wkv7_chunked])
LENGTHS = pytest.mark.parametrize("T", [1, 15, 16, 17, 100])
FASTEST = -0.6065
NAMES = ("r", "log_w", "k", "v", "a", "b", "state")


def fill(start: float, *shape: int) -> Tensor:
    """sin(start + 0.7 (i + 1)) in row-major order."""
    index = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(start + 0.7 * index).view(shape)


# Computed by the plain recurrence and its analytic gradients, for a gradient of 1 at every output.
VECTOR = {
    "y": [1.908799, 0.744711, -0.364608, 0.064597, -1.165905, -0.673349],
    "final": [0.130357, 1.175472, 0.069793, 0.684952],
    "r": [1.153594, 2.23481, -0.393215, 0.463607, 0.200151, 1.860424],
    "decay": [-0.154454, -0.024228, -0.004928, 0.120214, 0.00097, -0.006116],
    "k": [-2.086351, -0.768561, 0.012454, -0.165429, 0.042215, 0.218957],
    "v": [-1.03616, -1.03616, 0.209421, 0.209421, 0.097332, 0.097332],
    "a": [-0.819516, -0.305999, -0.297621, -0.576569, -0.008184, 0.009649],
    "b": [1.386283, 0.510672, -0.099213, 1.317911, 0.005709, 0.029613],
    "state": [0.202007, 0.462521, 0.202007, 0.462521],
}


@FORMS
def test_test_vector(op: Wkv) -> None:
    shape = (1, 3, 1, 2)
    r, decay, k, v = (fill(s, *shape).requires_grad_() for s in (1, 2, 3, 4))
    kk = F.normalize(fill(5, *shape), dim=-1)
    a = (-kk).requires_grad_()
    b = (kk * torch.sigmoid(fill(6, *shape))).requires_grad_()
    state = fill(7, 1, 1, 2, 2).requires_grad_()
    y, final = op(r, -math.exp(-0.5) * torch.sigmoid(decay), k, v, a, b, state)
    (y.sum() + final.sum()).backward()
    leaves = {"r": r, "decay": decay, "k": k, "v": v, "a": a, "b": b, "state": state}
    got = {"y": y, "final": final} | {name: leaf.grad for name, leaf in leaves.items()}
    for name, expected in VECTOR.items():
        torch.testing.assert_close(
            got[name].detach().flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6
        )


def differentiated(op: Wkv, inputs: list[Tensor], state: Tensor, resets: Tensor | None) -> dict[str, Tensor]:
    """Outputs and the gradients of everything, for gradients at the outputs that all differ."""
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    y, final = op(*leaves[:6], leaves[6], resets)
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
    B, H = 2, 3
    inputs = sample_wkv7(B, T, H, N, seed=T)[0]
    resets = None
    if kind == "resets":
        blocks = -(-T // CHUNK)
        resets = torch.stack((torch.arange(blocks) % 2 == 1, torch.arange(blocks) % 3 == 0))
    elif kind == "fastest decay":
        inputs[1] = torch.full_like(inputs[1], FASTEST)
    elif kind == "repeated token":
        # The worst case of the triangular inverse: the same key over and over, a ≈ 1, almost no decay.
        kk = F.normalize(inputs[4][:, :1], dim=-1).expand_as(inputs[4])
        inputs[1] = torch.full_like(inputs[1], -1e-4)
        inputs[2] = inputs[2][:, :1].expand_as(inputs[2])
        inputs[4], inputs[5] = kk, -kk * 0.9999
    return inputs, fill(3, B, H, N, N), resets


@LENGTHS
@pytest.mark.parametrize("kind", ["plain", "resets", "fastest decay", "repeated token"])
def test_chunked_equals_reference_with_all_gradients(T: int, kind: str) -> None:
    inputs, state, resets = case(T, kind)
    expected = differentiated(wkv7_reference, inputs, state, resets)
    in_double = relative(differentiated(wkv7_chunked, inputs, state, resets), expected)
    assert max(in_double.values()) < 1e-9, in_double
    single = [x.float() for x in inputs]
    in_single = relative(differentiated(wkv7_chunked, single, state.float(), resets), expected)
    assert max(in_single.values()) < 1e-5, in_single


def test_chunked_keeps_its_digits_at_the_head_size_of_the_public_models() -> None:
    inputs, state, resets = case(100, "fastest decay", N=64)
    expected = differentiated(wkv7_reference, inputs, state, resets)
    got = relative(differentiated(wkv7_chunked, [x.float() for x in inputs], state.float(), resets), expected)
    assert max(got.values()) < 1e-5, got


@FORMS
def test_gradients_against_finite_differences(op: Wkv) -> None:
    inputs = sample_wkv7(1, 18, 1, 2, seed=4)[0]
    state = fill(3, 1, 1, 2, 2)
    resets = torch.tensor([[False, True]])
    leaves = [x.clone().requires_grad_() for x in (*inputs, state)]
    # The state is forgotten at the reset, so its way into the outputs is the first block only.
    assert torch.autograd.gradcheck(lambda *x: op(*x[:6], x[6], resets), leaves, fast_mode=False)


@FORMS
def test_resets_equal_documents_run_separately(op: Wkv) -> None:
    T, starts = 80, (0, 32, 48)
    inputs = sample_wkv7(1, T, 2, 4, seed=5)[0]
    resets = torch.zeros(1, T // CHUNK, dtype=torch.bool)
    resets[0, [start // CHUNK for start in starts]] = True
    noise = fill(4, 1, 2, 4, 4) * 100  # must not be seen: the first document starts at token 0
    y, final = op(*inputs, noise, resets)
    last = None
    for start, end in zip(starts, (*starts[1:], T), strict=True):
        alone, last = op(*(x[:, start:end] for x in inputs))
        torch.testing.assert_close(y[:, start:end], alone, rtol=0, atol=1e-12)
    assert last is not None
    torch.testing.assert_close(final, last, rtol=0, atol=1e-12)


@FORMS
def test_the_state_carries_over_any_cut(op: Wkv) -> None:
    inputs = sample_wkv7(2, 50, 2, 4, seed=6)[0]
    y, final = wkv7_reference(*inputs)
    for cut in (1, 16, 21, 49):
        first, state = op(*(x[:, :cut] for x in inputs))
        second, end = op(*(x[:, cut:] for x in inputs), state)
        torch.testing.assert_close(torch.cat((first, second), 1), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(end, final, rtol=0, atol=1e-12)


def test_padding_to_a_whole_chunk_leaves_the_state_as_it_is() -> None:
    inputs = sample_wkv7(1, 5, 2, 4, seed=7)[0]
    state = fill(5, 1, 2, 4, 4)
    y, final = wkv7_chunked(*inputs, state)
    # A token that does nothing: no decay, no key, no removal.
    padded = [F.pad(x, (0, 0, 0, 0, 0, 27)) for x in inputs]
    y_padded, final_padded = wkv7_chunked(*padded, state)
    assert y.shape == (1, 5, 2, 4)
    torch.testing.assert_close(final_padded, final, rtol=0, atol=1e-13)
    torch.testing.assert_close(y_padded[:, :5], y, rtol=0, atol=1e-13)
    nothing = [x * 0 for x in inputs]
    assert torch.equal(wkv7_chunked(*nothing, state)[1], state)


@FORMS
def test_16_bit_inputs_are_computed_in_fp32(op: Wkv) -> None:
    r, log_w, k, v, a, b = (x.float() for x in sample_wkv7(1, 40, 2, 8, seed=8)[0])
    low = [x.bfloat16() for x in (r, k, v)]
    y, final = op(low[0], log_w, low[1], low[2], a, b)  # as the model calls it: decay and kk stay fp32
    exact, exact_final = wkv7_reference(
        low[0].double(), log_w.double(), *(x.double() for x in (*low[1:], a, b))
    )
    assert (y.dtype, final.dtype) == (torch.bfloat16, torch.float32)
    assert float((final.double() - exact_final).norm() / exact_final.norm()) < 1e-6
    assert float((y.double() - exact).norm() / exact.norm()) < 3e-3  # one rounding to bf16


def test_autocast_does_not_reach_the_recurrence() -> None:
    inputs = [x.float() for x in sample_wkv7(1, 40, 2, 8, seed=9)[0]]
    outside, _ = wkv7_chunked(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = wkv7_chunked(*inputs)
    assert torch.equal(inside, outside)

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.training import head_loss
from trainer.training.head_loss import IGNORE, head_cross_entropy


def inputs(
    M: int, C: int, V: int, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(M + V)
    hidden = torch.randn(M, C, generator=generator, dtype=torch.float64) * scale
    weight = torch.randn(V, C, generator=generator, dtype=torch.float64)
    return hidden.to(dtype), weight.to(dtype), torch.randint(V, (M,), generator=generator)


def gradients(loss: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, leaves))


# Rows and vocabulary that the tiles divide, do not divide, and that fit into one.
@pytest.mark.parametrize(("rows", "tile"), [(4, 8), (5, 7), (512, 4096), (1, 1)])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_cross_entropy_over_whole_logits(
    monkeypatch: pytest.MonkeyPatch, rows: int, tile: int, trained: bool, masked: bool
) -> None:
    monkeypatch.setattr(head_loss, "ROWS", rows)
    monkeypatch.setattr(head_loss, "VOCAB_TILE", tile)
    monkeypatch.setattr(head_loss, "TRAINED_HEAD_BYTES", 16 * 4 * 40)  # 16 rows at once
    hidden, weight, targets = inputs(37, 6, 40)
    if masked:
        targets[::3] = IGNORE
        targets[-4:] = IGNORE
    leaves = [hidden.requires_grad_()] + ([weight.requires_grad_()] if trained else [])
    loss = head_cross_entropy(hidden, weight, targets)
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="sum")
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    # The factor of a mean or of a gradient scaler goes through.
    ours, theirs = gradients(loss * 0.25, leaves), gradients(expected * 0.25, leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("trained", [False, True])
def test_l2wrap_pulls_at_the_largest_logit_of_each_counted_row(
    monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    monkeypatch.setattr(head_loss, "ROWS", 16)
    monkeypatch.setattr(head_loss, "VOCAB_TILE", 7)
    hidden, weight, targets = inputs(37, 6, 40)
    targets[::3] = IGNORE
    leaves = [hidden.requires_grad_()] + ([weight.requires_grad_()] if trained else [])
    plain = head_cross_entropy(hidden, weight, targets)
    # In two parts, as gradients are accumulated, and divided by what counts in all of them.
    counted, strength = int((targets >= 0).sum()), 0.3
    parts = [
        head_cross_entropy(hidden[part], weight, targets[part], strength) / counted
        for part in (slice(0, 10), slice(10, None))
    ]
    torch.testing.assert_close(sum(parts), plain / counted)
    largest = (hidden @ weight.T)[targets >= 0].amax(1)
    expected = plain / counted + strength / 2 * largest.square().mean()
    got = [gradients(part, leaves) for part in parts]
    for one, other, whole in zip(*got, gradients(expected, leaves), strict=True):
        torch.testing.assert_close(one + other, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("trained", [False, True])
def test_gradients_against_finite_differences(monkeypatch: pytest.MonkeyPatch, trained: bool) -> None:
    monkeypatch.setattr(head_loss, "VOCAB_TILE", 4)
    hidden, weight, targets = inputs(5, 3, 9)
    targets[2] = IGNORE
    weight.requires_grad_(trained)
    leaves = (hidden.requires_grad_(), weight)
    assert torch.autograd.gradcheck(lambda h, w: head_cross_entropy(h, w, targets), leaves)


@pytest.mark.parametrize("trained", [False, True])
def test_an_all_masked_batch_gives_zero_and_no_gradient(trained: bool) -> None:
    hidden, weight, targets = inputs(9, 4, 20)
    targets[:] = IGNORE
    leaves = [hidden.requires_grad_()] + ([weight.requires_grad_()] if trained else [])
    loss = head_cross_entropy(hidden, weight, targets)
    assert float(loss.detach()) == 0.0
    assert [float(g.abs().max()) for g in gradients(loss, leaves)] == [0.0] * len(leaves)


@pytest.mark.parametrize("trained", [False, True])
def test_large_logits_do_not_overflow(monkeypatch: pytest.MonkeyPatch, trained: bool) -> None:
    """The maximum may be in any tile; what was summed before it is scaled down, to nothing if need be."""
    monkeypatch.setattr(head_loss, "VOCAB_TILE", 7)
    hidden, weight, targets = inputs(20, 6, 40, torch.float32, scale=300.0)
    leaves = [hidden.requires_grad_()] + ([weight.requires_grad_()] if trained else [])
    loss = head_cross_entropy(hidden, weight, targets)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    w = exact[1] if trained else weight.double()
    expected = F.cross_entropy(exact[0] @ w.T, targets, reduction="sum")
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for one, other in zip(gradients(loss, leaves), gradients(expected, exact), strict=True):
        assert float((one.double() - other).norm() / other.norm()) < 1e-4


@pytest.mark.parametrize("trained", [False, True])
def test_16_bit_activations(trained: bool) -> None:
    hidden, weight, targets = inputs(64, 32, 500, torch.bfloat16, scale=0.3)
    head = weight.float().requires_grad_() if trained else weight  # a trained head is an fp32 master
    leaves = [hidden.requires_grad_()] + ([head] if trained else [])
    loss = head_cross_entropy(hidden, head, targets)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    expected = F.cross_entropy(
        exact[0] @ (exact[1] if trained else weight.double()).T, targets, reduction="sum"
    )
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=2e-3)
    got = gradients(loss, leaves)
    assert [g.dtype for g in got] == [x.dtype for x in leaves]
    for one, other in zip(got, gradients(expected, exact), strict=True):
        assert float((one.double() - other).norm() / other.norm()) < 2e-2


class Largest(TorchDispatchMode):
    """The most elements that any tensor has which an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("trained", [False, True])
def test_no_tensor_of_all_logits_ever_exists(trained: bool) -> None:
    M, C, V = 700, 4, 60_000
    hidden, weight, targets = inputs(M, C, V, torch.float32)
    hidden.requires_grad_()
    weight.requires_grad_(trained)
    with Largest() as seen:
        head_cross_entropy(hidden, weight, targets).backward()
    rows = head_loss.TRAINED_HEAD_BYTES // (4 * V)
    limit = max(rows * V, V * C) if trained else head_loss.ROWS * head_loss.VOCAB_TILE
    assert seen.elements <= limit < M * V / 2
    with Largest() as whole:
        F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    assert whole.elements == M * V  # the measure sees what it should


def test_rows_without_a_target_cost_nothing() -> None:
    hidden, weight, targets = inputs(400, 4, 3000, torch.float32)
    targets[8:] = IGNORE
    with Largest() as seen:
        head_cross_entropy(hidden.requires_grad_(), weight, targets)
    assert seen.elements == 8 * 3000

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from trainer.kernels.dispatch import OPERATIONS
from trainer.kernels.initial_state import run_from

# Documents at 0, 16 and 48 of the first row; the second row goes on from a state and starts one at 32.
RESETS = [[True, True, False, True], [False, False, True, False]]
T = 55


@pytest.fixture(params=["wkv56", "wkv7"])
def operation(request: pytest.FixtureRequest) -> str:
    return request.param


def sample(operation: str, B: int = 2) -> tuple[list[Tensor], Tensor, Tensor]:
    """Inputs, the state before the rows, and the initial state [H, N, N], in float64."""
    inputs, state = OPERATIONS[operation].sample(B, T, 2, 4)
    _, other = OPERATIONS[operation].sample(1, T, 2, 4)
    return inputs, state, other[0] * 0.7 + 0.1


def by_documents(operation: str, inputs: Sequence[Tensor], initial: Tensor, state: Tensor | None) -> Tensor:
    """y of each document by itself, and the last one's final state in each row, flat."""
    op, out = OPERATIONS[operation].reference, []
    for row, starts in enumerate(RESETS):
        cuts = [0, *(16 * j for j, start in enumerate(starts) if start and j), T]
        for first, end in pairwise(cuts):
            begins = first > 0 or starts[0] or state is None
            before = initial if begins or state is None else state[row]
            piece = [x[row : row + 1, first:end] if x.dim() == 4 else x for x in inputs]
            y, final = op(*piece, before[None], None)
            out.append(y.flatten())
            if end == T:
                out.append(final.flatten())
    return torch.cat(out)


def run(operation: str, inputs: Sequence[Tensor], initial: Tensor, state: Tensor | None) -> Tensor:
    op = OPERATIONS[operation].backends["chunked"]
    y, final = run_from(op, inputs, initial, state, torch.tensor(RESETS))
    return torch.cat([part.flatten() for row in range(2) for part in (y[row], final[row])])


@pytest.mark.parametrize("carried", [True, False])
def test_documents_start_from_the_given_state(operation: str, carried: bool) -> None:
    inputs, state, initial = sample(operation)
    before = state if carried else None
    leaves = [x.clone().requires_grad_() for x in (*inputs, initial, *([state] if carried else []))]

    def split(leaves: list[Tensor]) -> tuple[list[Tensor], Tensor, Tensor | None]:
        return leaves[: len(inputs)], leaves[len(inputs)], leaves[-1] if carried else None

    got, expected = run(operation, *split(leaves)), by_documents(operation, *split(leaves))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    assert not torch.allclose(got, run(operation, inputs, torch.zeros_like(initial), before), atol=1e-3)
    weight = torch.cos(torch.arange(got.numel(), dtype=torch.float64))
    ours = torch.autograd.grad((got * weight).sum(), leaves)
    theirs = torch.autograd.grad((expected * weight).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("resets", [None, [[True, False, False, False]] * 2])
def test_whole_rows_are_one_call(operation: str, resets: list[list[bool]] | None) -> None:
    inputs, _, initial = sample(operation)
    calls = []

    def op(*args: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(args[0].shape)
        return OPERATIONS[operation].reference(*args)

    y, _ = run_from(op, inputs, initial, None, None if resets is None else torch.tensor(resets))
    expected, _ = OPERATIONS[operation].reference(*inputs, initial.expand(2, 2, 4, 4), None)
    assert torch.equal(y, expected)
    assert calls == [inputs[0].shape]


def test_a_state_of_zeros_is_none(operation: str) -> None:
    inputs, state, initial = sample(operation)
    op = OPERATIONS[operation].reference
    got = run_from(op, inputs, torch.zeros_like(initial), state, torch.tensor(RESETS))
    for one, other in zip(got, op(*inputs, state, torch.tensor(RESETS)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.adapters.attach import attach
from trainer.models.checkpoint import open_checkpoint
from trainer.models.layouts import expected_shapes
from trainer.models.loading import build, load_model
from trainer.models.recompute import POLICIES
from trainer.models.skeleton import RWKV, token_shift
from trainer.models.spec import detect_file
from trainer.training.head_loss import head_cross_entropy

GENERATIONS = ("4", "5.0", "5.1", "5.2", "6", "7")


@pytest.fixture(params=GENERATIONS)
def model(request: pytest.FixtureRequest, checkpoint_tensors: Callable[..., Any], tmp_path: Path) -> RWKV:
    """In float64: what is compared here is compared to the last digits."""
    path = tmp_path / "model.pth"
    options = {"n_embd": 32, "head_size": 16, "vocab": 50}
    torch.save(checkpoint_tensors(request.param, dtype="fp32", **options), path)
    return load_model(path, dtype=torch.float64)


def random_tokens(B: int, T: int, vocab: int = 50, seed: int = 0) -> Tensor:
    return torch.randint(vocab, (B, T), generator=torch.Generator().manual_seed(seed))


FILES = {
    **{generation: (generation, {}) for generation in GENERATIONS},
    "5.0, raw bonus": ("5.0", {"u_key": "time_faaaa"}),
    "6, odd ranks": ("6", {"ranks": {"mix": 24, "decay": 40}}),
    "7, odd ranks": ("7", {"ranks": {"w": 24, "g": 40}}),
    "7, no v in layer 0": ("7", {"layer0_v": False}),
}


@pytest.mark.parametrize("name", FILES)
def test_parameters_are_named_and_shaped_as_the_file(
    name: str, make_checkpoint: Callable[..., Any], tmp_path: Path
) -> None:
    generation, options = FILES[name]
    written = make_checkpoint(tmp_path / "m.pth", generation, **options)
    spec = detect_file(open_checkpoint(tmp_path / "m.pth"))
    own = {name: tuple(p.shape) for name, p in build(spec).named_parameters()}
    assert own == {name: tuple(t.shape) for name, t in written.items()} == expected_shapes(spec)


def test_the_state_carries_over_chunks_of_any_length(model: RWKV) -> None:
    tokens = random_tokens(2, 70)
    whole, end = model(tokens)
    state, parts = None, []
    for part in tokens.split([1, 15, 16, 17, 21], dim=1):
        hidden, state = model(part, state)
        parts.append(hidden)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-11)
    assert state is not None
    for got, expected in zip(state, end, strict=True):
        for name in ("att_x", "wkv", "ffn_x"):
            torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=1e-11)


def test_resets_equal_documents_run_separately(model: RWKV) -> None:
    tokens = random_tokens(1, 80)
    starts = (0, 16, 64)
    resets = torch.zeros(1, 5, dtype=torch.bool)
    resets[0, [0, 1, 4]] = True
    _, foreign = model(random_tokens(1, 9, seed=3))
    packed, end = model(tokens, foreign, resets)  # nor is a state seen that comes before the first document
    last = None
    for start, stop in zip(starts, (16, 64, 80), strict=True):
        alone, last = model(tokens[:, start:stop])
        torch.testing.assert_close(packed[:, start:stop], alone, rtol=0, atol=1e-11)
    assert last is not None
    torch.testing.assert_close(end[1].wkv, last[1].wkv, rtol=0, atol=1e-11)
    without, _ = model(tokens)
    assert float((without[:, 16:] - packed[:, 16:]).abs().max()) > 1e-3


def test_rows_of_a_batch_do_not_see_each_other(model: RWKV) -> None:
    tokens = random_tokens(3, 20)
    batch, _ = model(tokens)
    for row in range(3):
        torch.testing.assert_close(batch[row], model(tokens[row : row + 1])[0][0], rtol=0, atol=1e-12)


def test_token_shift() -> None:
    x = torch.arange(1.0, 41.0).view(1, 20, 2)
    assert torch.equal(token_shift(x, None, None)[0, :2], torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    last = torch.tensor([[7.0, 8.0]])
    shifted = token_shift(x, last, torch.tensor([[False, True]]))
    assert torch.equal(shifted[0, 0], last[0])
    assert torch.equal(shifted[0, 15:18], torch.tensor([[29.0, 30.0], [0.0, 0.0], [33.0, 34.0]]))


# RWKV-7's layer 0 has its own v as v_first; there these decide nothing.
IDLE = {"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"}


def trained(model: RWKV, dropout: float = 0.0) -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(1)
    attach(model, "lora", r=3, alpha=6.0, dropout=dropout, parts=("att", "ffn", "time", "time_lora", "ln"))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.1)
    return parameters


def loss_of(model: RWKV, tokens: Tensor, targets: Tensor, resets: Tensor | None) -> Tensor:
    hidden, _ = model(tokens, None, resets)
    return head_cross_entropy(hidden.flatten(0, 1), model.head.weight, targets.flatten()) / targets.numel()


def test_gradients_against_finite_differences_through_two_layers(model: RWKV) -> None:
    """The largest and one more entry of every trained tensor, through packing, LoRA, norms and head."""
    parameters = trained(model)
    tokens, targets = random_tokens(2, 34), random_tokens(2, 34, seed=5)
    resets = torch.tensor([[True, False, True], [True, True, False]])
    loss_of(model, tokens, targets, resets).backward()
    idle = {name for name, p in parameters.items() if p.grad is None}
    assert idle == IDLE & set(parameters)
    generator = torch.Generator().manual_seed(2)
    checked = 0
    for name, parameter in parameters.items():
        if parameter.grad is None:
            continue
        gradient, flat = parameter.grad.flatten(), parameter.data.view(-1)
        assert gradient.any(), name
        largest = int(gradient.abs().argmax())
        for entry in {largest, int(torch.randint(len(flat), (1,), generator=generator))}:
            step, middle, sides = 1e-5, float(flat[entry]), []
            for sign in (1, -1):
                flat[entry] = middle + sign * step
                with torch.no_grad():
                    sides.append(float(loss_of(model, tokens, targets, resets)))
            flat[entry] = middle
            numeric, analytic = (sides[0] - sides[1]) / (2 * step), float(gradient[entry])
            assert abs(numeric - analytic) < 1e-4 * abs(numeric) + 1e-9, (name, entry, numeric, analytic)
            checked += 1
    assert checked > len(parameters)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_is_computed_again_gives_the_same_gradients_bit_for_bit(model: RWKV, dropout: float) -> None:
    parameters = trained(model, dropout)
    model.train()
    tokens, targets = random_tokens(2, 34), random_tokens(2, 34, seed=5)
    found = []
    for policy in POLICIES:
        model.recomputed = policy
        model.zero_grad()
        torch.manual_seed(11)
        loss = loss_of(model, tokens, targets, None)
        loss.backward()
        found.append((float(loss.detach()), {n: p.grad for n, p in parameters.items() if p.grad is not None}))
    (plain_loss, plain), *others = found
    assert set(plain) == set(parameters) - IDLE
    for loss, gradients in others:
        assert loss == plain_loss
        assert set(gradients) == set(plain)
        assert [name for name in plain if not torch.equal(plain[name], gradients[name])] == []


def test_gradients_flow_through_a_state_that_is_carried(model: RWKV) -> None:
    parameters = trained(model)
    tokens, targets = random_tokens(1, 30), random_tokens(1, 30, seed=5)
    loss_of(model, tokens, targets, None).backward()
    whole = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    model.zero_grad()
    first, state = model(tokens[:, :13])
    second, _ = model(tokens[:, 13:], state)
    hidden = torch.cat((first, second), 1)[0]
    (head_cross_entropy(hidden, model.head.weight, targets[0]) / 30).backward()
    for name, gradient in whole.items():
        torch.testing.assert_close(parameters[name].grad, gradient, rtol=0, atol=1e-12)

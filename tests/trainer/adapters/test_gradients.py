"""Gradients of every method through two layers, packing and head, against finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.adapters.attach import attach
from trainer.models.loading import load_model
from trainer.models.skeleton import RWKV
from trainer.training.head_loss import head_cross_entropy

RESETS = torch.tensor([[True, False, True], [True, True, False]])
# RWKV-7's layer 0 has its own v as v_first; there these decide nothing.
IDLE = {"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"}


@pytest.fixture
def load(make_checkpoint: Callable[..., Any], tmp_path: Path) -> Callable[..., RWKV]:
    def load(generation: str, **options: Any) -> RWKV:
        path = tmp_path / "m.pth"
        make_checkpoint(path, generation, dtype="fp32", n_embd=32, head_size=16, vocab=50)
        return load_model(path, dtype=torch.float64, **options)

    return load


def loss_of(model: RWKV) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    tokens, targets = torch.randint(50, (2, 2, 34), generator=generator)
    hidden, _ = model(tokens, None, RESETS)
    return head_cross_entropy(hidden.flatten(0, 1), model.head.weight, targets.flatten()) / targets.numel()


def numeric(model: RWKV, flat: Tensor, entry: int, step: float = 1e-5) -> float:
    middle, sides = float(flat[entry]), []
    for sign in (1, -1):
        flat[entry] = middle + sign * step
        with torch.no_grad():
            sides.append(float(loss_of(model)))
    flat[entry] = middle
    return (sides[0] - sides[1]) / (2 * step)


@pytest.mark.parametrize(
    ("generation", "method"),
    [
        *((generation, "state") for generation in ("5.0", "5.1", "5.2", "6", "7")),
        *((generation, "full") for generation in ("4", "5.2", "6", "7")),
        ("4", "miss"), ("6", "pissa"), ("7", "pissa"), ("7", "miss"),
    ],
)  # fmt: skip
def test_the_largest_and_one_more_of_every_tensor(load: Any, generation: str, method: str) -> None:
    model = load(generation)
    torch.manual_seed(1)
    attach(model, method, r=3, alpha=6.0, parts=("att", "ffn"))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            if name.endswith(("lora_A", "lora_B", "disha", "time_state")):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    if method == "state":
        assert set(trained) == {f"blocks.{i}.att.time_state" for i in (0, 1)}
    loss_of(model).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == set(trained) - IDLE
    for name in set(trained) - IDLE:
        gradient, flat = trained[name].grad, trained[name].data.view(-1)
        assert gradient is not None
        gradient = gradient.flatten()
        largest, other = int(gradient.abs().argmax()), int(torch.randint(len(flat), (1,)))
        assert float(gradient[largest]) != 0, name
        for entry in {largest, other}:
            found, wanted = float(gradient[entry]), numeric(model, flat, entry)
            assert abs(found - wanted) < 1e-4 * abs(wanted) + 1e-9, (name, entry, wanted, found)


@pytest.mark.parametrize("generation", ["5.0", "6", "7"])
def test_recomputed_blocks_give_the_same_gradients_of_a_state(load: Any, generation: str) -> None:
    model = load(generation)
    attach(model, "state")
    found = []
    for model.grad_cp in (False, True):
        model.zero_grad()
        loss_of(model).backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == 2
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_through_a_quantised_base(load: Any, quant: str) -> None:
    """What is frozen keeps no dense copy for the backward pass."""
    model = load("7", quant=quant)
    attach(model, "lora", r=3, alpha=6.0, parts=("att",))
    model.double()  # over codes the factors are fp32
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        loss = loss_of(model)
    loss.backward()
    sizes = {tuple(model.get_submodule(f"blocks.0.{m}").weight.shape) for m in ("ffn.key", "ffn.value")}
    assert sizes == {(128, 32), (32, 128)}
    assert not [t for t in kept if tuple(t.shape) in sizes | {s[::-1] for s in sizes}]
    for name in ("blocks.0.att.key.lora_A", "blocks.1.att.output.lora_B", "blocks.0.att.value.lora_B"):
        parameter = model.get_parameter(name)
        assert parameter.grad is not None
        gradient = parameter.grad.flatten()
        entry = int(gradient.abs().argmax())
        assert float(gradient[entry]) == pytest.approx(
            numeric(model, parameter.data.view(-1), entry), rel=1e-4
        )

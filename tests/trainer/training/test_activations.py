from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from trainer.adapters.attach import attach
from trainer.models.loading import load_model
from trainer.models.recompute import POLICIES, Policy
from trainer.models.skeleton import RWKV
from trainer.training.activations import choose_policy, needed_bytes

GENERATIONS = ("4", "5.2", "6", "7")
PLENTY = 1 << 40


@pytest.fixture
def make_model(make_checkpoint: Callable[..., Any], tmp_path: Path) -> Callable[..., RWKV]:
    def make(generation: str = "7", method: str = "lora", quant: Any = None, **sizes: Any) -> RWKV:
        path = tmp_path / f"{generation}.pth"
        sizes = {"n_layer": 3, "n_embd": 64, "head_size": 16, "vocab": 50, **sizes}
        make_checkpoint(path, generation=generation, **sizes)
        model = load_model(path, dtype=torch.float32, device="cpu", quant=quant)
        torch.manual_seed(1)
        attach(model, method, r=4, alpha=8.0, dropout=0.1, parts=("att", "ffn", "time", "ln"))
        for name, param in model.named_parameters():
            if name.endswith(("lora_B", "disha")):
                torch.nn.init.normal_(param, std=0.1)
        return model.train()

    return make


def updated(model: RWKV, policy: Policy, T: int = 40) -> tuple[float, dict[str, Tensor]]:
    model.recomputed = policy
    model.zero_grad()
    torch.manual_seed(2)
    tokens = torch.randint(50, (2, T))
    resets = torch.zeros(2, -(-T // 16), dtype=torch.bool)
    resets[0, 1] = True
    hidden, _ = model(tokens, None, resets)
    loss = hidden.square().mean()
    loss.backward()
    return float(loss.detach()), {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize(
    ("generation", "method", "quant"),
    [
        *((generation, "lora", None) for generation in GENERATIONS),
        ("7", "dora", None), ("7", "miss", None), ("7", "pissa", None), ("7", "full", None),
        ("7", "lora", "nf4"), ("6", "miss", "int8"),
    ],
)  # fmt: skip
def test_no_policy_changes_a_bit(
    make_model: Callable[..., RWKV], generation: str, method: str, quant: str | None
) -> None:
    model = make_model(generation, method, quant)
    loss, gradients = updated(model, "none")
    assert len(gradients) > 10
    for policy in POLICIES[1:]:
        again_loss, again = updated(model, policy)
        assert again_loss == loss
        assert again.keys() == gradients.keys()
        assert [name for name in again if not torch.equal(again[name], gradients[name])] == []


@pytest.mark.parametrize("generation", GENERATIONS)
def test_selective_computes_no_large_product_again(make_model: Callable[..., RWKV], generation: str) -> None:
    model = make_model(generation, n_embd=256, head_size=64)
    flops = {}
    for policy in POLICIES:
        with FlopCounterMode(display=False) as counted:
            updated(model, policy)
        flops[policy] = counted.get_total_flops()
    assert flops["selective"] < 1.12 * flops["none"]
    assert flops["full"] > 1.3 * flops["none"]


def held_bytes(model: RWKV, policy: Policy, tokens: int) -> int:
    """What a forward pass keeps that is no parameter, of what autograd and the policies hold."""

    def alive() -> dict[int, int]:
        gc.collect()
        found = {}
        for thing in gc.get_objects():
            if issubclass(type(thing), Tensor):  # isinstance would ask strange objects for their class
                storage = thing.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
        return found

    held: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.recomputed = policy
    before = alive()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        hidden, _ = model(torch.randint(50, (1, tokens)))
    after = alive() | held
    del hidden
    return sum(size for place, size in after.items() if place not in before)


def test_what_is_needed_is_what_is_held(make_model: Callable[..., RWKV]) -> None:
    model = make_model(n_layer=6)
    needed = needed_bytes(model, 512)
    held = {policy: held_bytes(model, policy, 512) for policy in POLICIES}
    assert held["none"] == pytest.approx(needed["none"], rel=0.2)
    for policy in ("selective", "full"):
        # While a block is computed again, it is held once as if nothing were.
        assert held[policy] + needed["none"] / 6 == pytest.approx(needed[policy], rel=0.35)
    assert held["none"] > 2 * held["selective"] > 4 * held["full"]
    double = needed_bytes(model, 1024)
    assert all(double[policy] == pytest.approx(2 * needed[policy], rel=1e-6) for policy in POLICIES)


def test_the_quickest_that_fits_is_chosen(make_model: Callable[..., RWKV]) -> None:
    model = make_model(n_layer=6)
    trained = 12 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    needed = needed_bytes(model, 512)
    assert choose_policy(model, 512, PLENTY) == "none"
    for smaller, policy in (("none", "selective"), ("selective", "full"), ("full", "full")):
        free = trained + round(needed[smaller] / 0.8) - 1000
        assert choose_policy(model, 512, free) == policy
        assert choose_policy(model, 512, free + 2000) == smaller
    assert choose_policy(model, 512, 0) == "full"


def test_choosing_draws_no_random_number_and_leaves_no_gradient(make_model: Callable[..., RWKV]) -> None:
    model = make_model()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    choose_policy(model, 512, PLENTY)
    assert torch.equal(torch.rand(3), expected)
    assert all(param.grad is None for param in model.parameters())

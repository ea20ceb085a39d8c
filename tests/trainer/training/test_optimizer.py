from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.adapters.attach import attach
from trainer.contract.params import TrainParams, checked
from trainer.models.loading import load_model
from trainer.models.rwkv7 import RWKV7
from trainer.training.optimizer import make_optimizer, set_learning_rate

PARTS = ("att", "ffn", "time", "time_lora", "ln", "emb", "head")


@pytest.fixture
def model(tmp_path: Path, make_checkpoint: Callable[..., Any]) -> RWKV7:
    make_checkpoint(tmp_path / "m.pth", dtype="fp32")
    model = load_model(tmp_path / "m.pth")
    attach(model, "lora", r=4, alpha=8.0, dropout=0.0, parts=PARTS)
    return model


def params(**values: Any) -> TrainParams:
    return checked({"base_model": "b", "data": "d", **values})


def test_every_trained_tensor_is_in_one_group_and_only_matrices_decay(model: RWKV7) -> None:
    optimizer = make_optimizer(model, params(weight_decay=0.1), "cpu")
    where = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(where) == len(trained)
    decays = {name for name, p in trained.items() if where[id(p)]["weight_decay"] == 0.1}
    flat = {name for name, p in trained.items() if where[id(p)]["weight_decay"] == 0.0}
    assert decays | flat == set(trained)
    leaves = {name.rpartition(".")[2] for name in flat}
    assert leaves == {
        "weight", "bias", "x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a", "r_k",
    }  # fmt: skip
    assert {name for name in flat if name.endswith(".weight")} == {
        name for name in trained if ".ln" in name and name.endswith(".weight")
    }
    assert {"emb.weight", "head.weight", "blocks.0.att.key.lora_A", "blocks.1.att.w1"} <= decays
    fast = {name for name, p in trained.items() if where[id(p)]["lr_scale"] == 2.0}
    assert fast == {"blocks.0.att.w0", "blocks.1.att.w0"}


@pytest.mark.parametrize(
    ("generation", "fast"),
    [
        ("4", {"time_decay": 2.0, "time_first": 3.0}),
        ("5.0", {"time_decay": 2.0, "time_first": 3.0}),
        ("5.2", {"time_decay": 2.0}),
        ("6", {"time_decay": 2.0}),
    ],
)
def test_rates_and_decay_of_the_older_generations(
    tmp_path: Path, make_checkpoint: Callable[..., Any], generation: str, fast: dict[str, float]
) -> None:
    make_checkpoint(tmp_path / "m.pth", generation, dtype="fp32")
    model = load_model(tmp_path / "m.pth")
    attach(model, "full")
    optimizer = make_optimizer(model, params(weight_decay=0.1), "cpu")
    where = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    groups = {name: where[id(p)] for name, p in model.named_parameters()}
    scales = {n.rpartition(".")[2]: g["lr_scale"] for n, g in groups.items() if g["lr_scale"] != 1.0}
    assert scales == fast
    # Decay and bonus are [H, N] in 5.2 and 6, and still no matrices.
    decays = {name.rpartition(".")[2] for name, group in groups.items() if group["weight_decay"]}
    low_rank = {f"time_{name}_w{i}" for name in ("maa", "decay") for i in (1, 2)}
    assert decays == {"weight"} | (low_rank if generation == "6" else set())


def test_a_tuned_state_does_not_decay(tmp_path: Path, make_checkpoint: Callable[..., Any]) -> None:
    make_checkpoint(tmp_path / "m.pth", "6", dtype="fp32")
    model = load_model(tmp_path / "m.pth")
    attach(model, "state")
    groups = make_optimizer(model, params(weight_decay=0.1), "cpu").param_groups
    assert [(len(g["params"]), g["lr_scale"], g["weight_decay"]) for g in groups] == [(2, 1.0, 0.0)]


def test_settings_and_rates_arrive(model: RWKV7) -> None:
    asked = params(lr_init=3e-4, beta1=0.8, beta2=0.95, adam_eps=1e-6)
    optimizer = make_optimizer(model, asked, "cpu")
    assert {(group["betas"], group["eps"], group["lr"]) for group in optimizer.param_groups} == {
        ((0.8, 0.95), 1e-6, 3e-4)
    }
    set_learning_rate(optimizer, 1e-5)
    assert {(group["lr_scale"], group["lr"]) for group in optimizer.param_groups} == {
        (1.0, 1e-5),
        (2.0, 2e-5),
    }


def test_a_step_moves_by_the_rate_and_leaves_frozen_tensors_alone(model: RWKV7) -> None:
    model.get_parameter("head.weight").requires_grad_(False)
    optimizer = make_optimizer(model, params(weight_decay=0.5), "cpu")
    set_learning_rate(optimizer, 1e-3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # Adam's first step is the rate itself; decay takes rate × 0.5 of a matrix besides.
    moved = {name: before[name] - p.detach() for name, p in model.named_parameters()}
    torch.testing.assert_close(moved["blocks.0.att.w0"], torch.full((1, 1, 64), 2e-3), rtol=0, atol=1e-6)
    torch.testing.assert_close(moved["blocks.0.att.r_k"], torch.full((2, 32), 1e-3), rtol=0, atol=1e-6)
    expected = 1e-3 + 5e-4 * before["blocks.0.att.g1"]
    torch.testing.assert_close(moved["blocks.0.att.g1"], expected, rtol=0, atol=1e-6)
    assert not moved["blocks.0.att.key.weight"].any()
    assert not moved["head.weight"].any()

"""Rows in chunks against the same rows in one go, in float64: losses and every gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.adapters.attach import attach
from trainer.models.loading import load_model
from trainer.models.recompute import POLICIES, Policy
from trainer.models.skeleton import RWKV
from trainer.training.batches import MicroBatch
from trainer.training.bptt import segment_losses
from trainer.training.head_loss import IGNORE, head_cross_entropy

GENERATIONS = ("4", "5.0", "5.1", "5.2", "6", "7")


@pytest.fixture(params=GENERATIONS)
def model(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Any], tmp_path: Path) -> RWKV:
    path = tmp_path / "model.pth"
    make_checkpoint(path, request.param, n_embd=32, head_size=16, vocab=50, dtype="fp32")
    model = load_model(path, dtype=torch.float64)
    torch.manual_seed(1)
    attach(model, "lora", r=3, alpha=6.0, dropout=0.0, parts=("att", "ffn", "time", "time_lora", "ln"))
    with torch.no_grad():
        for name, param in model.named_parameters():
            if name.endswith("lora_B"):
                param.normal_(std=0.1)
    return model.train()


def rows(*lengths: int, starts: dict[int, list[int]] | None = None) -> MicroBatch:
    """Rows of random tokens, all of one width; a row's targets end with its length."""
    generator = torch.Generator().manual_seed(5)
    width = -(-max(lengths) // 16) * 16
    tokens = torch.randint(50, (len(lengths), width), generator=generator)
    targets = torch.randint(50, (len(lengths), width), generator=generator)
    resets = torch.zeros(len(lengths), width // 16, dtype=torch.bool)
    resets[:, 0] = True
    for row, length in enumerate(lengths):
        targets[row, length:] = IGNORE
        for start in (starts or {}).get(row, ()):
            resets[row, start // 16] = True
    return MicroBatch(tokens, targets, resets, int((targets >= 0).sum()), sum(lengths))


def gradients(model: RWKV) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def in_one_go(model: RWKV, batch: MicroBatch) -> tuple[float, dict[str, Tensor]]:
    hidden, _ = model(batch.tokens, None, batch.resets)
    loss = head_cross_entropy(hidden.flatten(0, 1), model.head.weight, batch.targets.flatten())
    loss.backward()
    return loss.item(), gradients(model)


def in_chunks(model: RWKV, batch: MicroBatch, chunk: int, bptt: int = 0) -> tuple[float, dict[str, Tensor]]:
    total = 0.0
    for loss in segment_losses(model, batch, chunk_tokens=chunk, bptt_chunks=bptt):
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def assert_same(got: tuple[float, dict[str, Tensor]], expected: tuple[float, dict[str, Tensor]]) -> None:
    assert got[0] == pytest.approx(expected[0], rel=1e-12)
    assert got[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(got[1][name], gradient, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_gradient_crosses_every_chunk(model: RWKV, policy: Policy) -> None:
    model.recomputed = policy
    # A short row before a long one, and a document that begins inside the long one.
    batch = rows(20, 137, 64, starts={1: [96]})
    assert_same(in_chunks(model, batch, 32), in_one_go(model, batch))


def test_cut_gradients_keep_the_state(model: RWKV) -> None:
    batch = rows(128)
    expected, state = 0.0, None
    for start in (0, 64):
        part = slice(start, start + 64)
        hidden, state = model(batch.tokens[:, part], state, batch.resets[:, start // 16 : start // 16 + 4])
        loss = head_cross_entropy(hidden[0], model.head.weight, batch.targets[0, part])
        loss.backward()
        expected += loss.item()
        for layer in state:
            layer.att_x, layer.wkv, layer.ffn_x = (x.detach() for x in (layer.att_x, layer.wkv, layer.ffn_x))
    by_hand = expected, gradients(model)
    truncated = in_chunks(model, batch, 32, bptt=2)
    assert_same(truncated, by_hand)
    full = in_chunks(model, batch, 32)
    assert full[0] == pytest.approx(truncated[0], rel=1e-12)
    assert any(not torch.allclose(full[1][name], truncated[1][name]) for name in full[1])


def test_dropout_is_the_same_when_a_chunk_is_computed_again(
    make_checkpoint: Callable[..., Any], tmp_path: Path
) -> None:
    make_checkpoint(tmp_path / "m.pth", n_embd=32, head_size=16, vocab=50, dtype="fp32")

    def loss_at(shift: float) -> tuple[float, Tensor]:
        model = load_model(tmp_path / "m.pth", dtype=torch.float64)
        attach(model, "lora", r=2, alpha=4.0, dropout=0.3, parts=("att",))
        with torch.no_grad():
            for name, param in model.named_parameters():
                if "lora" in name:
                    param.copy_(torch.sin(torch.arange(param.numel()) + 1.0).view_as(param) * 0.1)
        name = "blocks.0.att.key.lora_A"
        with torch.no_grad():
            model.get_parameter(name)[0, 0] += shift
        torch.manual_seed(3)
        loss, found = in_chunks(model.train(), rows(96), 32)
        return loss, found[name]

    above, below, gradient = loss_at(1e-5)[0], loss_at(-1e-5)[0], loss_at(0.0)[1]
    assert float(gradient[0, 0]) == pytest.approx((above - below) / 2e-5, rel=1e-5)


def test_rows_without_targets_cost_nothing(model: RWKV) -> None:
    batch = rows(48)
    batch.targets[:] = IGNORE
    assert list(segment_losses(model, batch, chunk_tokens=32)) == []

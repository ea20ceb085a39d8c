"""Losses and gradients of every generation in 16 bits against float64, and fp16's scaler in real runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.adapters.attach import attach
from trainer.adapters.files import read_adapter
from trainer.models.loading import load_model
from trainer.models.skeleton import RWKV
from trainer.training.device import Device
from trainer.training.head_loss import summed_loss

GENERATIONS = ("4", "5.0", "5.1", "5.2", "6", "7")
# Largest relative L2 error of all gradients together: 8 and 11 bits of digits, over two layers.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def gradients(path: Path, dtype: torch.dtype) -> tuple[float, torch.Tensor]:
    model: RWKV = load_model(path, dtype=dtype)
    torch.manual_seed(0)
    attach(model, "lora", r=4, alpha=8.0, parts=("att", "ffn", "time", "ln"))
    with torch.no_grad():
        for name, param in model.named_parameters():
            if name.endswith("lora_B"):
                param.copy_(torch.linspace(-0.05, 0.05, param.numel()).view_as(param))
            if name.endswith("lora_A"):
                param.copy_(torch.linspace(-0.2, 0.2, param.numel()).view_as(param))
    tokens = torch.arange(40).view(1, 40) % 17
    loss, _ = model.train()(tokens, None, None, partial(summed_loss, tokens.roll(-1, 1)))
    (loss / 40).backward()
    found = [p.grad.double().flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None]
    return float(loss.detach()) / 40, torch.cat(found)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_against_float64(make_checkpoint: Callable[..., Any], tmp_path: Path, generation: str) -> None:
    path = tmp_path / "base.pth"
    make_checkpoint(path, generation=generation, n_layer=2, n_embd=64, vocab=64, head_size=16)
    exact_loss, exact = gradients(path, torch.float64)
    for dtype, tolerance in TOLERANCE.items():
        loss, got = gradients(path, dtype)
        assert loss == pytest.approx(exact_loss, rel=tolerance)
        assert float((got - exact).norm() / exact.norm()) < tolerance, dtype


@pytest.fixture
def in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs compute in fp16 with its scaler, as on a card, on this CPU."""
    device = Device("cpu", torch.float16, False, ())
    monkeypatch.setattr("trainer.training.opening.resolve_device", lambda params: device)


def test_fp16_learns_what_fp32_learns(run_train: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    plain = run_train("plain", epoch_count=1, lora_dropout=0.0)
    request.getfixturevalue("in_fp16")
    scaled = run_train("scaled", epoch_count=1, lora_dropout=0.0)
    assert scaled.status == "completed"
    assert scaled.losses == pytest.approx(plain.losses, rel=2e-2)
    assert [e["grad_norm"] for e in scaled.of("step")] == pytest.approx(
        [e["grad_norm"] for e in plain.of("step")], rel=0.1
    )


def test_an_overflow_skips_the_update_and_lowers_the_scale(
    run_train: Callable[..., Any], in_fp16: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = partial(torch.amp.GradScaler, init_scale=2.0**40, backoff_factor=2.0**-12)
    monkeypatch.setattr(torch.amp, "GradScaler", scaler)
    ran = run_train("run", epoch_count=2, lora_dropout=0.0, keep_last=100, epoch_save=1)
    assert ran.status == "completed"
    steps = ran.of("step")
    skipped = [e["step"] for e in steps if e["grad_norm"] is None]
    assert skipped
    assert skipped == list(range(1, len(skipped) + 1))
    # Nothing has learned where the update was skipped: the same rows would give the same losses.
    assert len(skipped) < len(steps)
    assert all(e["loss"] is not None for e in steps)
    state = torch.load(ran.folder.checkpoints()[-1].state, weights_only=True)
    assert state["scaler"]["scale"] == 2.0 ** (40 - 12 * len(skipped))
    first_update = next(iter(state["optimizer"]["state"].values()))["step"]
    assert int(first_update) == len(steps) - len(skipped)


def test_a_run_that_goes_on_keeps_its_scale(run_train: Callable[..., Any], in_fp16: None) -> None:
    whole = run_train("whole", lora_dropout=0.0)
    run_train("cut", lora_dropout=0.0, at={3: {"cmd": "stop", "save": True}})
    cut = run_train("cut", resume=True)
    assert cut.losses == whole.losses
    last = [ran.folder.checkpoints()[-1] for ran in (whole, cut)]
    a, b = (read_adapter(checkpoint.adapter).tensors for checkpoint in last)
    assert all(torch.equal(a[name], b[name]) for name in a)

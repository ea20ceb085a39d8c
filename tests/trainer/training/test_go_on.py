"""Training goes on from other tools' adapters: it starts as base and adapter are, and saves them as ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trainer.adapters.files import open_adapter
from trainer.adapters.merge import merge

Tensors = dict[str, torch.Tensor]
MODULES = [f"blocks.{i}.{name}" for i in range(2) for name in ("att.receptance", "att.output", "ffn.key")]


@pytest.fixture
def base(tmp_path: Path, make_checkpoint: Any) -> tuple[Path, Tensors]:
    path = tmp_path / "base.pth"
    return path, make_checkpoint(path, n_embd=32, vocab=65536, head_size=16, seed=3, dtype="fp32")


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def slim(folder: Path, weights: Tensors) -> Path:
    tensors = {}
    for module in MODULES:
        rows, columns = weights[f"{module}.weight"].shape
        tensors |= {f"{module}.lora_A": noise(4, columns), f"{module}.lora_B": noise(rows, 4)}
    torch.save(tensors, folder / "rwkv-0.pth")
    return folder / "rwkv-0.pth"


def peft(folder: Path, weights: Tensors) -> Path:
    tensors = torch.load(slim(folder, weights), weights_only=True)
    named = {f"base_model.model.{name}.weight": tensor for name, tensor in tensors.items()}
    (folder / "peft").mkdir()
    save_file(named, folder / "peft" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 12, "use_rslora": True, "alpha_pattern": {"key": 3}}
    (folder / "peft" / "adapter_config.json").write_text(json.dumps(config))
    return folder / "peft"


def pissa(folder: Path, weights: Tensors) -> Path:
    path = slim(folder, weights)
    trained = torch.load(path, weights_only=True)
    start = {name.replace("lora_", "init_lora_"): 0.9 * tensor for name, tensor in trained.items()}
    torch.save(start, folder / "init_pissa.pth")
    return path


def miss(folder: Path, weights: Tensors) -> Path:
    tensors = {f"{module}.disha": noise(8, len(weights[f"{module}.weight"])) for module in MODULES}
    torch.save(tensors, folder / "rwkv-0.pth")
    return folder / "rwkv-0.pth"


def bat(folder: Path, weights: Tensors) -> Path:
    shapes = {module: weights[f"{module}.weight"].shape for module in MODULES}
    tensors = {f"{module}.disha": noise(shape[1] // 8, 8, 8) for module, shape in shapes.items()}
    torch.save(tensors, folder / "rwkv-0.pth")
    return folder / "rwkv-0.pth"


# Adapter, parameters, the method that goes on, and its rank.
CASES: list[tuple[Callable[[Path, Tensors], Path], dict[str, Any], str, int]] = [
    (slim, {"lora_resize": True, "lora_r": 6}, "lora", 6),
    (peft, {}, "lora", 4),
    (pissa, {}, "lora", 8),
    (miss, {"lora_resize": True, "lora_r": 16}, "miss", 16),
    (bat, {}, "bat_in", 8),
]


@pytest.mark.parametrize(("make", "params", "method", "r"), CASES)
def test_it_starts_with_what_base_and_adapter_are(
    run_train: Callable[..., Any], base: tuple[Path, Tensors], tmp_path: Path, make: Any,
    params: dict[str, Any], method: str, r: int,
) -> None:  # fmt: skip
    path, weights = base
    adapter = make(tmp_path, weights)
    common: dict[str, Any] = {"epoch_count": 1, "epoch_steps": 3, "lora_alpha": 10, "lora_dropout": 0.0}
    common["method"] = "miss" if method == "miss" else "lora"
    ran = run_train("on", base_model=str(path), lora_load=str(adapter), **common, **params)
    assert ran.status == "completed", ran.error
    merge(path, adapter, tmp_path / "merged.pth", alpha=10.0, verify=False)
    fresh = run_train("fresh", base_model=str(tmp_path / "merged.pth"), **common)
    assert ran.losses[1] == pytest.approx(fresh.losses[1], rel=1e-5)
    assert ran.losses[ran.step] < ran.losses[1]
    told = [event["code"] for event in ran.events if event.t == "warning"]
    assert any(code.startswith("adapter_is_") for code in told)
    saved = open_adapter(ran.folder.checkpoints()[-1].adapter)
    assert (saved.writer, saved.method, saved.rank) == ("ours", method, r)
    report = merge(path, saved.path, tmp_path / "again.pth")
    assert report.logits is not None
    assert report.logits.base_and_adapter is not None
    assert report.logits.base_and_adapter < 1e-4


def test_a_cut_is_told_with_what_it_lost_and_a_resume_goes_on(
    run_train: Callable[..., Any], base: tuple[Path, Tensors], tmp_path: Path
) -> None:
    path, weights = base
    values: dict[str, Any] = {
        "base_model": str(path), "lora_load": str(slim(tmp_path, weights)), "lora_resize": True, "lora_r": 2,
    }  # fmt: skip
    whole = run_train("whole", **values)
    (cut,) = [
        event for event in whole.events if event.t == "warning" and event["code"] == "adapter_truncated"
    ]
    assert (cut["args"]["r"], cut["args"]["old"]) == (2, 4)
    assert 0 < float(cut["args"]["lost"].rstrip("%")) < 100
    stopped = run_train("cut", at={2: {"cmd": "stop", "id": 1}}, **values)
    assert (stopped.status, stopped.step) == ("stopped", 2), stopped.error
    resumed = run_train("cut", resume=True)
    assert resumed.losses == whole.losses

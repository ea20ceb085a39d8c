"""What blocks are said to keep, against what real blocks of every kind do keep."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.adapters.attach import attach
from trainer.contract.params import checked
from trainer.kernels.dispatch import OPERATIONS
from trainer.models import skeleton
from trainer.models.layouts import ModelSpec
from trainer.models.loading import build
from trainer.training.activation_sizes import block_sizes
from trainer.training.activations import MEASURED_TOKENS, _block_bytes

GENERATIONS = ("4", "5.0", "5.1", "5.2", "6", "7")
PARTS = ("att", "ffn", "time", "ln")
KINDS: list[dict[str, Any]] = [
    {"method": "lora", "lora_parts": PARTS, "lora_dropout": 0.0},
    {"method": "lora", "lora_parts": PARTS, "lora_dropout": 0.1},
    {"method": "lora", "lora_parts": ("att", "time_lora"), "lora_dropout": 0.0},
    {"method": "dora", "lora_parts": ("ffn",), "lora_dropout": 0.0},
    {"method": "pissa", "lora_parts": PARTS},
    {"method": "miss", "lora_parts": PARTS},
    {"method": "state"},
    {"method": "full"},
]


def spec_of(generation: str, C: int = 256) -> ModelSpec:
    ranks = {"7": {"w": 24, "a": 16, "v": 8, "g": 40}, "6": {"mix": 12, "decay": 20}}.get(generation, {})
    heads = 0 if generation == "4" else C // 64
    bonus = "time_faaaa" if generation[0] == "5" else None
    F = 4 * C if generation in "47" else 7 * C // 2
    return ModelSpec(
        generation, 2, C, C, F, 32, 64 if heads else 0, heads, ranks, layer0_v=True, bonus_key=bonus
    )  # fmt: skip


def measured(spec: ModelSpec, values: dict[str, Any], dtype: torch.dtype) -> tuple[float, float, float]:
    model = build(spec).to(dtype)
    torch.manual_seed(0)
    for param in model.parameters():
        param.data = torch.randn_like(param) * 0.02
    model.compute_dtype = dtype
    params = checked({"base_model": "b", "data": "d", "lora_r": 12, **values})
    attach(
        model, params.method, r=params.lora_r, alpha=8.0, dropout=params.lora_dropout, parts=params.lora_parts
    )
    everything, products, block_input = _block_bytes(model.train())
    return everything / MEASURED_TOKENS, products / MEASURED_TOKENS, block_input / MEASURED_TOKENS


def told(spec: ModelSpec, values: dict[str, Any], dtype: torch.dtype, *, chunked: bool) -> Any:
    params = checked({"base_model": "b", "data": "d", "lora_r": 12, **values})
    return block_sizes(spec, params, dtype.itemsize, chunked=chunked)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", ["native", "chunked"])
def test_what_is_kept(
    generation: str, dtype: torch.dtype, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(generation)
    operation = OPERATIONS[build(spec).operation]
    monkeypatch.setattr(skeleton, "choose", lambda *_: (backend, operation.backends[backend]))
    for values in KINDS if backend == "native" else KINDS[:1]:
        if values["method"] == "state" and generation == "4":
            continue
        sizes = told(spec, values, dtype, chunked=backend == "chunked")
        everything, products, block_input = measured(spec, values, dtype)
        constant = sizes.constant / MEASURED_TOKENS
        assert sizes.everything + constant == pytest.approx(everything, rel=0.06), values
        assert sizes.products == pytest.approx(products, rel=0.01), values
        assert sizes.block_input == block_input

"""The estimate against what real runs of these shapes held, and against what is attached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.params import checked
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import ModelSpec, expected_shapes
from trainer.training.estimate import estimate_memory

RANKS_7 = {"w": 64, "a": 64, "v": 32, "g": 128}


def spec(generation: str, n_layer: int, n_embd: int) -> ModelSpec:
    dim_ffn = 4 * n_embd if generation == "7" else int(3.5 * n_embd) // 32 * 32
    ranks = RANKS_7 if generation == "7" else {"mix": 8, "decay": 12}
    return ModelSpec(
        generation, n_layer, n_embd, n_embd, dim_ffn, 65536, 64, n_embd // 64, ranks, layer0_v=True
    )  # fmt: skip


def estimated(model: ModelSpec, **values: Any) -> Any:
    infos = {name: TensorInfo("bf16", shape, 0) for name, shape in expected_shapes(model).items()}
    return estimate_memory(infos, model, checked({"base_model": "b", "data": "d", **values}))


# Resident memory at its peak, of `train` with the shapes' random weights and MALLOC_MMAP_THRESHOLD_=1000000.
MEASURED_BYTES = [
    (("7", 6, 256), {"ctx_len": 1024, "grad_cp": False, "lora_r": 32, "lora_dropout": 0}, 892e6),
    (("7", 6, 256), {"ctx_len": 1024, "grad_cp": True, "lora_r": 32, "lora_dropout": 0}, 767e6),
    (("7", 4, 512), {"ctx_len": 1024, "grad_cp": False, "lora_r": 16, "lora_dropout": 0.1}, 1243e6),
    (
        ("6", 6, 256),
        {"ctx_len": 1024, "micro_bsz": 2, "grad_cp": False, "lora_r": 16, "lora_dropout": 0},
        1116e6,
    ),
    (("7", 4, 512), {"ctx_len": 512, "grad_cp": True, "method": "full"}, 2055e6),
]


@pytest.mark.parametrize(("shape", "values", "measured"), MEASURED_BYTES)
def test_the_peak_is_within_a_tenth(
    shape: tuple[str, int, int], values: dict[str, Any], measured: float
) -> None:
    assert estimated(spec(*shape), **values).total_bytes == pytest.approx(measured, rel=0.1)


def test_trained_elements_are_counted_as_they_are_attached(
    make_checkpoint: Callable[..., Any], tmp_path: Path
) -> None:
    from trainer.adapters.attach import attach
    from trainer.models.checkpoint import open_checkpoint
    from trainer.models.loading import load_model
    from trainer.models.spec import detect_file

    for generation in ("4", "5.2", "6", "7"):
        make_checkpoint(tmp_path / "m.pth", generation)
        file = open_checkpoint(tmp_path / "m.pth")
        for parts in (
            ("att", "ffn", "time", "ln"),
            ("att", "emb", "time", "ln"),
            ("ffn", "head", "time", "ln"),
        ):
            model = load_model(tmp_path / "m.pth")
            attach(model, "lora", r=5, alpha=5, parts=parts)
            trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
            added = sum(p.numel() for name, p in trained.items() if ".lora_" in name)
            own = sum(p.numel() for p in trained.values()) - added
            params = checked({"base_model": "b", "data": "d", "lora_r": 5, "lora_parts": parts})
            got = estimate_memory(file.infos, detect_file(file), params).trained_bytes
            assert got == pytest.approx(12 * own + 16 * added, rel=0.02)


def test_the_largest_that_fits_fits() -> None:
    model = spec("7", 12, 768)
    found = estimated(model, ctx_len=1024)
    most = found.largest_tokens(8_000_000_000)
    assert most % 16 == 0
    assert estimated(model, ctx_len=most).total_bytes <= 8_000_000_000
    assert estimated(model, ctx_len=most + 16).total_bytes > 8_000_000_000
    assert found.largest_tokens(500_000_000) == 0

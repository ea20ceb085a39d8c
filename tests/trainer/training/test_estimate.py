"""The estimate against the peaks that real runs of these shapes held, and against what is attached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.params import checked
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import ModelSpec, expected_shapes
from trainer.training.estimate import MemoryEstimate, estimate_memory

PLENTY = 1 << 50
SIZES_7 = {"0.1B": (12, 768), "0.4B": (24, 1024), "1.5B": (24, 2048), "2.9B": (32, 2560)}


def spec(generation: str, n_layer: int, n_embd: int) -> ModelSpec:
    dim_ffn = 4 * n_embd if generation in "47" else int(3.5 * n_embd) // 32 * 32
    ranks = {"7": {"w": 64, "a": 64, "v": 32, "g": 128}, "6": {"mix": 32, "decay": 64}}.get(generation, {})
    heads = 0 if generation == "4" else n_embd // 64
    bonus = "time_faaaa" if generation[0] == "5" else None
    return ModelSpec(
        generation, n_layer, n_embd, n_embd, dim_ffn, 65536, 64 if heads else 0, heads, ranks,
        layer0_v=True, bonus_key=bonus,
    )  # fmt: skip


def estimated(
    model: ModelSpec, *, dtype_bytes: int = 4, available: int = PLENTY, device: Any = "cpu", **values: Any
) -> MemoryEstimate:
    infos = {name: TensorInfo("bf16", shape, 0) for name, shape in expected_shapes(model).items()}
    return estimate_memory(
        infos, model, checked({"base_model": "b", "data": "d", **values}), device=device,
        dtype_bytes=dtype_bytes, available_bytes=available,
    )  # fmt: skip


COMMON = {"ctx_len": 1024, "grad_cp": False, "lora_r": 32, "lora_dropout": 0.0}
# Resident memory at its peak, of `train` with random weights of these shapes; the heap kept tight.
TIGHT_BYTES = [
    (("7", 12, 512), 4, COMMON, 1990e6),
    (("7", 12, 512), 2, COMMON, 1506e6),
    (("7", 6, 256), 2, COMMON, 753e6),
]
# The same with glibc's heap as it is.
LOOSE_BYTES = [
    (("7", 6, 256), 4, COMMON, 1011e6),
    (("6", 6, 256), 4, COMMON, 994e6),
    (("5.2", 6, 256), 4, COMMON, 918e6),
    (("4", 6, 256), 4, COMMON, 908e6),
    (("7", 12, 512), 4, COMMON, 2618e6),
    (("7", 12, 512), 4, {**COMMON, "lora_dropout": 0.01, "micro_bsz": 2}, 5556e6),
    (("7", 12, 512), 4, {**COMMON, "method": "full"}, 4100e6),
    (("7", 6, 256), 4, {**COMMON, "method": "dora", "micro_bsz": 4}, 2590e6),
    (("7", 12, 512), 2, COMMON, 1845e6),
]


@pytest.mark.parametrize(("shape", "dtype_bytes", "values", "measured"), TIGHT_BYTES)
def test_a_tight_heap_holds_what_is_alive(
    shape: tuple[str, int, int], dtype_bytes: int, values: dict[str, Any], measured: float
) -> None:
    found = estimated(spec(*shape), dtype_bytes=dtype_bytes, available=int(measured * 1.05), **values)
    assert found.tight
    assert found.total_bytes == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("shape", "dtype_bytes", "values", "measured"), LOOSE_BYTES)
def test_the_peak_of_a_run_with_plenty_of_memory(
    shape: tuple[str, int, int], dtype_bytes: int, values: dict[str, Any], measured: float
) -> None:
    found = estimated(spec(*shape), dtype_bytes=dtype_bytes, **values)
    assert not found.tight
    assert found.total_bytes == pytest.approx(measured, rel=0.1)
    assert found.least_bytes < measured


@pytest.mark.parametrize("method", ["lora", "dora", "pissa", "miss", "state"])
def test_trained_elements_are_counted_as_they_are_attached(
    make_checkpoint: Callable[..., Any], tmp_path: Path, method: str
) -> None:
    from trainer.adapters.attach import attach
    from trainer.models.checkpoint import open_checkpoint
    from trainer.models.loading import load_model
    from trainer.models.spec import detect_file

    for generation in ("4", "5.2", "6", "7"):
        if (generation, method) == ("4", "state"):
            continue
        make_checkpoint(tmp_path / "m.pth", generation)
        file = open_checkpoint(tmp_path / "m.pth")
        for parts in (
            ("att", "ffn", "time", "ln"),
            ("att", "emb", "time", "ln"),
            ("ffn", "head", "time", "ln"),
        ):
            model = load_model(tmp_path / "m.pth")
            base = {name for name, _ in model.named_parameters()}
            attach(model, method, r=5, alpha=5, parts=parts)
            trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
            own = sum(p.numel() for name, p in trained.items() if name in base)
            added = sum(p.numel() for p in trained.values()) - own
            params = checked(
                {"base_model": "b", "data": "d", "lora_r": 5, "lora_parts": parts, "method": method}
            )
            got = estimate_memory(
                file.infos, detect_file(file), params, device="cpu", dtype_bytes=4, available_bytes=PLENTY
            ).trained_bytes
            leaf = 20 if method == "pissa" else 16
            assert got == pytest.approx(12 * own + leaf * added, rel=0.02), (generation, parts)


@pytest.mark.parametrize("grad_cp", [False, True])
@pytest.mark.parametrize("quant", ["none", "nf4", "int8"])
def test_the_largest_that_fits_fits(grad_cp: bool, quant: str) -> None:
    model, available = spec("7", 12, 768), 8_000_000_000
    values = {"grad_cp": grad_cp, "quant": quant, "available": available}
    most = estimated(model, ctx_len=1024, **values).largest_tokens
    assert most % 16 == 0
    assert estimated(model, ctx_len=most, **values).least_bytes <= available
    assert estimated(model, ctx_len=most + 32, **values).least_bytes > available
    assert estimated(model, ctx_len=1024, available=500_000_000).largest_tokens == 0


@pytest.mark.parametrize("size", SIZES_7)
def test_less_is_less(size: str) -> None:
    model = spec("7", *SIZES_7[size])
    common = {"ctx_len": 1024, "device": "cuda", "dtype_bytes": 2}
    plain = estimated(model, **common)
    assert plain.total_bytes < estimated(model, **{**common, "dtype_bytes": 4}).total_bytes
    for less in ({"quant": "nf4"}, {"method": "state"}, {"method": "miss"}, {"lora_r": 8}, {"ctx_len": 512}):
        assert estimated(model, **{**common, **less}).total_bytes < plain.total_bytes, less
    assert (
        estimated(model, **common, quant="nf4").weights_bytes
        < estimated(model, **common, quant="int8").weights_bytes
        < plain.weights_bytes
    )
    recomputing = estimated(model, **common, available=plain.fixed_bytes + plain.activations_bytes // 3)
    assert recomputing.recomputed in ("selective", "full")
    assert recomputing.activations_bytes < plain.activations_bytes


def test_zero_divides_what_is_trained_and_at_last_the_weights() -> None:
    model = spec("7", 12, 768)
    alone = estimated(model, device="cuda", dtype_bytes=2, method="full")
    found = [
        estimated(
            model, device="cuda", dtype_bytes=2, method="full", devices=4, strategy=f"deepspeed_stage_{stage}"
        )
        for stage in (1, 2, 3)
    ]
    assert alone.trained_bytes > found[0].trained_bytes > found[1].trained_bytes
    assert alone.weights_bytes == found[1].weights_bytes == pytest.approx(4 * found[2].weights_bytes, abs=4)

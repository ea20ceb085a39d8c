"""Strength, several adapters, layers and formats of a merge, against float64."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.adapters.merge import Addition, merge
from trainer.contract.errors import InputError

ODD = 'it\'s "a" $(touch x) 名'
Values = dict[str, np.ndarray]


@pytest.fixture
def files(tmp_path: Path, make_checkpoint: Any, make_adapter: Any) -> tuple[Path, Path, Path]:
    """A base in fp32 and two adapters with different ranks, alphas and fully trained tensors."""
    base, one, two = (tmp_path / f"{ODD} {name}.pth" for name in ("base", "one", "two"))
    make_checkpoint(base, dtype="fp32")
    make_adapter(one, base, r=4, alpha=8.0)
    make_adapter(two, base, r=3, alpha=2.0, seed=5, full=("blocks.0.ln1.weight", "emb.weight"))
    return base, one, two


def loaded(path: Path) -> Values:
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    return {name: tensor.double().numpy() for name, tensor in tensors.items() if tensor.is_floating_point()}


def alone(base: Values, adapter: Values, alpha: float) -> Values:
    """What an adapter alone makes of the base."""
    out = dict(base)
    for name, value in adapter.items():
        module = name.removesuffix(".lora_A")
        if module != name:
            product = adapter[f"{module}.lora_B"] @ value
            out[f"{module}.weight"] = base[f"{module}.weight"] + alpha / len(value) * product
        elif name in base:
            out[name] = value
    return out


def largest_difference(found: Values, wanted: Values) -> float:
    assert found.keys() == wanted.keys()
    return max(np.abs(found[name] - wanted[name]).max() for name in wanted)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 1.5])
def test_strength_scales_what_an_adapter_changes(
    tmp_path: Path, files: tuple[Path, Path, Path], strength: float
) -> None:
    base, one, _ = files
    report = merge(base, [Addition(one, strength)], tmp_path / "out.pth", verify=False)
    before, after = loaded(base), alone(loaded(base), loaded(one), 8.0)
    wanted = {name: before[name] + strength * (after[name] - before[name]) for name in before}
    found = loaded(tmp_path / "out.pth")
    assert largest_difference(found, wanted) < 2e-6
    assert report.changed == (0 if strength == 0 else 14)
    if strength == 0:
        assert largest_difference(found, before) == 0.0


def test_several_adapters_add_their_changes(tmp_path: Path, files: tuple[Path, Path, Path]) -> None:
    base, one, two = files
    additions = [Addition(one, 0.5), Addition(two, 1.25)]
    report = merge(base, additions, tmp_path / "out.pth")
    before = loaded(base)
    a, b = alone(before, loaded(one), 8.0), alone(before, loaded(two), 2.0)
    wanted = {name: W + 0.5 * (a[name] - W) + 1.25 * (b[name] - W) for name, W in before.items()}
    assert largest_difference(loaded(tmp_path / "out.pth"), wanted) < 4e-6
    assert (report.alpha, report.lora_matrices) == (None, 12)
    assert [problem.args["r"] for problem in report.adapters] == [4, 3]
    # The package agrees with our model of the merged file; no single adapter makes it.
    assert report.logits is not None
    assert report.logits.package < 1e-5
    assert report.logits.base_and_adapter is None


def test_layers_limit_what_is_changed(tmp_path: Path, files: tuple[Path, Path, Path]) -> None:
    base, one, two = files
    merge(base, [Addition(one), Addition(two)], tmp_path / "out.pth", layers=frozenset({1}), verify=False)
    before = loaded(base)
    a, b = alone(before, loaded(one), 8.0), alone(before, loaded(two), 2.0)
    wanted = {
        name: W + (a[name] - W) + (b[name] - W) if name.startswith("blocks.1.") else W
        for name, W in before.items()
    }
    assert largest_difference(loaded(tmp_path / "out.pth"), wanted) < 4e-6
    with pytest.raises(InputError) as caught:
        merge(base, one, tmp_path / "more.pth", layers=frozenset({1, 2}))
    assert (caught.value.code, caught.value.problem.args) == ("merge_layers", {"layer": 2, "last": 1})


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", None])
def test_safetensors_hold_what_a_pth_holds(
    tmp_path: Path, files: tuple[Path, Path, Path], dtype: str | None
) -> None:
    base, one, _ = files
    options: Any = {"dtype": dtype, "verify": dtype is None}
    report = merge(base, one, tmp_path / f"{ODD}.safetensors", **options)
    merge(base, one, tmp_path / "out.pth", **options)
    ours, theirs = load_file(report.output), torch.load(tmp_path / "out.pth", weights_only=True)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    if dtype is None:  # the package answers from a .safetensors too
        assert report.logits is not None
        assert report.logits.package < 1e-5
        assert report.logits.base_and_adapter is not None


@pytest.mark.parametrize("generation", ["6", "7"])
@pytest.mark.parametrize("dtype", [None, "fp32", "q8_0"])
def test_gguf_holds_the_merged_values(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any, generation: str, dtype: str | None
) -> None:
    base, adapter, output = tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / f"{ODD}.gguf"
    make_checkpoint(base, generation)
    mix = "blocks.1.att.x_r" if generation == "7" else "blocks.1.att.time_maa_r"
    make_adapter(adapter, base, generation=generation, full=(mix,))
    report = merge(base, adapter, output, dtype=dtype)
    wanted = alone(loaded(base), loaded(adapter), 8.0)
    reader = gguf.GGUFReader(output)
    found = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(
            [int(n) for n in tensor.shape[::-1]]
        )
        for tensor in reader.tensors
    }
    key = wanted["blocks.1.ffn.key.weight"]
    peaks = np.abs(key.reshape(-1, 32)).max(1).repeat(32).reshape(key.shape)
    bound = {"q8_0": peaks * (0.5 / 127 + 2.0**-11), "fp32": 2.0**-23 * np.abs(key)}.get(
        dtype or "", 2.0**-11 * np.abs(key)
    )
    assert (np.abs(found["blk.1.channel_mix_key.weight"] - key) <= bound + 1e-6).all()
    fused = found["blk.1.time_mix_lerp_fused.weight"]
    assert np.abs(fused[0 if generation == "7" else 3] - wanted[mix]).max() < 1e-6
    assert report.dtype == (dtype or "fp16")
    assert report.tensors == len(found)
    name = reader.get_field("general.name")
    assert name is not None
    assert name.contents() == ODD
    assert [problem.code for problem in report.warnings] == ["merge_verify_skipped"]


def test_rounding_in_a_gguf_is_measured_too(tmp_path: Path, files: tuple[Path, Path, Path]) -> None:
    base, one, _ = files
    coarse, fine = (
        merge(base, one, tmp_path / f"{dtype}.gguf", dtype=dtype).lost_share for dtype in ("q8_0", "fp32")
    )
    assert fine == 0.0
    assert 1e-3 < coarse < 0.5


@pytest.mark.parametrize(
    ("name", "dtype"), [("out.bin", None), ("out", None), ("out.pth", "q8_0"), ("out.safetensors", "q8_0")]
)
def test_other_names_and_types_are_refused(
    tmp_path: Path, files: tuple[Path, Path, Path], name: str, dtype: str | None
) -> None:
    with pytest.raises(InputError) as caught:
        merge(files[0], files[1], tmp_path / name, dtype=dtype)
    assert caught.value.code == "merge_format"
    assert not (tmp_path / name).exists()


def test_a_gguf_of_a_pile_model_is_refused_before_the_work(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any
) -> None:
    make_checkpoint(tmp_path / "base.pth", "6", vocab=50277, n_embd=32)
    make_adapter(tmp_path / "a.pth", tmp_path / "base.pth", generation="6", full=())
    with pytest.raises(InputError) as caught:
        merge(tmp_path / "base.pth", tmp_path / "a.pth", tmp_path / "out.gguf")
    assert caught.value.code == "vocab_not_found"


def test_differently_quantised_bases_do_not_go_together(
    tmp_path: Path, files: tuple[Path, Path, Path], make_adapter: Any
) -> None:
    base, one, _ = files
    make_adapter(tmp_path / "nf4.pth", base, quant="nf4")
    additions = [Addition(one), Addition(tmp_path / "nf4.pth")]
    with pytest.raises(InputError) as caught:
        merge(base, additions, tmp_path / "out.pth", onto_quantised=True)
    assert (caught.value.code, caught.value.problem.args["quants"]) == ("merge_quantised", "nf4, —")


@pytest.mark.parametrize("generation", ["5.2", "6"])
def test_states_of_several_adapters_add_up(tmp_path: Path, make_checkpoint: Any, generation: str) -> None:
    base = tmp_path / "base.safetensors"
    save_file(make_checkpoint(tmp_path / "base.pth", generation, dtype="fp32"), base)
    names = [f"blocks.{i}.att.time_state" for i in range(2)]
    states = [{name: torch.randn(2, 32, 32) for name in names} for _ in range(2)]
    for number, state in enumerate(states):
        torch.save(state, tmp_path / f"{number}.pth")
    additions = [Addition(tmp_path / "0.pth", 0.5), Addition(tmp_path / "1.pth")]
    merge(base, additions, tmp_path / "out.pth", verify=False)
    merged = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(merged)[-2:] == names
    for name in names:
        assert torch.allclose(merged[name], 0.5 * states[0][name] + states[1][name], atol=1e-6)
    # A base that has states of its own moves towards the adapter's.
    merge(tmp_path / "out.pth", [Addition(tmp_path / "1.pth", 0.5)], tmp_path / "again.pth", verify=False)
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    half = (merged[names[0]] + states[1][names[0]]) / 2
    assert torch.allclose(again[names[0]], half, atol=1e-6)


def test_the_base_is_read_only(tmp_path: Path, files: tuple[Path, Path, Path]) -> None:
    before = [hashlib.sha256(path.read_bytes()).digest() for path in files]
    merge(files[0], [Addition(files[1], 0.4), Addition(files[2])], tmp_path / "out.safetensors", verify=False)
    assert [hashlib.sha256(path.read_bytes()).digest() for path in files] == before
    assert not [path.name for path in tmp_path.iterdir() if re.match(r"\.|x$", path.name)]

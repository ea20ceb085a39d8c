from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer.adapters.attach import KINDS
from trainer.adapters.files import Adapter, read_adapter
from trainer.adapters.leaves import by_module, kind_of
from trainer.adapters.resize import resized
from trainer.contract.errors import InputError
from trainer.models.checkpoint import TensorInfo

INFOS = {
    "blocks.0.att.key.weight": TensorInfo("fp32", (40, 24), 0),
    "blocks.0.ffn.value.weight": TensorInfo("fp32", (24, 96), 0),
}


def adapter_of(leaves: dict[str, torch.Tensor], alpha: float | None = 6.0) -> Adapter:
    return Adapter(leaves, None, alpha, Path("a.pth"))


def lora(r: int, seed: int = 0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    out = {}
    for name, info in INFOS.items():
        module = name.removesuffix(".weight")
        out[f"{module}.lora_A"] = torch.randn(r, info.shape[1], generator=generator)
        out[f"{module}.lora_B"] = torch.randn(info.shape[0], r, generator=generator)
    return adapter_of(out)


def changes(adapter: Adapter) -> dict[str, np.ndarray]:
    """What the adapter adds to each weight, in float64."""
    out = {}
    for module, names in by_module(adapter.tensors).items():
        kind = kind_of(names)
        assert kind is not None
        W = torch.zeros(INFOS[f"{module}.weight"].shape, dtype=torch.float64)
        leaves = {leaf: adapter.tensors[f"{module}.{leaf}"].double() for leaf in names}
        out[module] = KINDS[kind].merged(W, 0, leaves, adapter.alpha or 0.0).numpy()
    return out


@pytest.mark.parametrize("r", [4, 5, 16])
def test_a_larger_rank_changes_nothing_and_can_be_trained(r: int) -> None:
    before = lora(4)
    after, lost = resized(before, r, INFOS)
    assert lost == 0.0
    for module, change in changes(before).items():
        assert np.abs(changes(after)[module] - change).max() < 1e-5
        assert after.tensors[f"{module}.lora_A"].shape == (r, change.shape[1])
        # B's new columns get a gradient from A's new rows, which are as LoRA's begin.
        rows = after.tensors[f"{module}.lora_A"][4:]
        assert ((rows.abs() > 0) & (rows.abs() <= change.shape[1] ** -0.5)).all()


@pytest.mark.parametrize("r", [1, 3, 7])
def test_a_smaller_rank_is_the_best_of_that_rank(r: int) -> None:
    before = lora(8)
    after, lost = resized(before, r, INFOS)
    left = total = 0.0
    for module, change in changes(before).items():
        U, S, Vh = np.linalg.svd(change)
        best = (U[:, :r] * S[:r]) @ Vh[:r]
        assert np.abs(changes(after)[module] - best).max() < 1e-4
        assert after.tensors[f"{module}.lora_B"].shape[1] == r
        left, total = left + np.square(S[r:]).sum(), total + np.square(S).sum()
    assert lost == pytest.approx(np.sqrt(left / total), rel=1e-6)
    assert 0.1 < lost < 1


def test_modules_of_different_ranks_become_alike() -> None:
    tensors = {**lora(8).tensors, **{k: v for k, v in lora(2).tensors.items() if ".ffn." in k}}
    before = adapter_of(tensors)
    after, lost = resized(before, 4, INFOS)
    assert {len(t) for name, t in after.tensors.items() if name.endswith("_A")} == {4}
    module = "blocks.0.ffn.value"
    assert np.abs(changes(after)[module] - changes(before)[module]).max() < 1e-5
    all_squares = sum(np.square(change).sum() for change in changes(before).values())
    cut = changes(before)["blocks.0.att.key"] - changes(after)["blocks.0.att.key"]
    assert lost == pytest.approx(np.sqrt(np.square(cut).sum() / all_squares), rel=1e-4)


def test_magnitudes_and_fully_trained_tensors_stay() -> None:
    before = lora(4)
    extra = {"blocks.0.att.key.lora_M": torch.rand(40) + 1, "blocks.0.ln1.weight": torch.randn(24)}
    after, _ = resized(adapter_of({**before.tensors, **extra}), 2, INFOS)
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in extra.items())


@pytest.mark.parametrize(("old", "new"), [(8, 24), (8, 8), (8, 6), (12, 4), (10, 16)])
def test_miss_is_the_nearest_in_least_squares(old: int, new: int) -> None:
    module, columns = "blocks.0.ffn.value", 96
    D = torch.randn(old, 24, dtype=torch.float64)
    before = adapter_of({f"{module}.disha": D}, None)
    after, lost = resized(before, new, INFOS)
    change = changes(before)[module]
    # The columns of the change as a function of the new matrix's rows.
    design = np.eye(new)[np.arange(columns) % new]
    best = np.linalg.lstsq(design, change.T, rcond=None)[0]
    assert np.abs(after.tensors[f"{module}.disha"].numpy() - best).max() < 1e-5
    rest = np.linalg.norm(design @ best - change.T) / np.linalg.norm(change)
    assert lost == pytest.approx(rest, abs=1e-6)
    assert (lost < 1e-9) == (new % old == 0)


def test_our_pissa_becomes_the_lora_that_it_is(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any
) -> None:
    make_checkpoint(tmp_path / "base.pth")
    make_adapter(tmp_path / "a.pth", tmp_path / "base.pth", r=4, method="pissa")
    infos = {name: TensorInfo("bf16", tuple(tensor.shape), 0)
             for name, tensor in torch.load(tmp_path / "base.pth", weights_only=True).items()}  # fmt: skip
    after, _ = resized(read_adapter(tmp_path / "a.pth"), 2, infos)
    assert after.meta is not None
    assert (after.meta.method, after.meta.r, after.alpha, after.rank) == ("lora", 2, 8.0, 2)


def test_blocks_of_bat_keep_their_size() -> None:
    bat = adapter_of({"blocks.0.ffn.value.bat_in": torch.randn(12, 8, 8)}, None)
    with pytest.raises(InputError) as caught:
        resized(bat, 4, INFOS)
    assert caught.value.code == "adapter_resize"

"""What is exported is merged as other tools do it, and equals what was trained, in float64."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainer.adapters.export import export_adapter
from trainer.adapters.files import open_adapter, read_adapter
from trainer.adapters.merge import merge
from trainer.contract.errors import InputError

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def base(tmp_path: Path, make_checkpoint: Any) -> Path:
    make_checkpoint(tmp_path / "base.pth", dtype="fp32")
    return tmp_path / "base.pth"


def merged_by_others(base: Path, adapter: Path, alpha: int) -> Tensors:
    """What RWKV-Runner's and RWKV-LM-LoRA's do: an integer alpha, "lora" keys dropped, others taken over."""
    weights, found = (torch.load(path, weights_only=True) for path in (base, adapter))
    for name, tensor in found.items():
        if name.endswith(".lora_A"):
            module, B = name.removesuffix(".lora_A"), found[name.replace("lora_A", "lora_B")]
            weights[f"{module}.weight"] += B @ tensor * (alpha / B.shape[1])
    return weights | {name: tensor for name, tensor in found.items() if "lora" not in name}


@pytest.mark.parametrize("alpha", [8.0, 6.7, 0.3])
def test_other_mergers_read_a_flat_file(tmp_path: Path, base: Path, make_adapter: Any, alpha: float) -> None:
    make_adapter(tmp_path / "a.pth", base, r=4, alpha=alpha)
    exported = export_adapter(read_adapter(tmp_path / "a.pth"), tmp_path / "out.pth")
    assert exported.alpha is not None
    assert exported.alpha == int(exported.alpha) >= 1
    merge(base, tmp_path / "a.pth", tmp_path / "ours.pth", verify=False)
    ours = torch.load(tmp_path / "ours.pth", weights_only=True)
    theirs = merged_by_others(base, tmp_path / "out.pth", int(exported.alpha))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max() < 2e-6, name
    # Ours still tells what it is, with the alpha that now belongs to it.
    assert open_adapter(tmp_path / "out.pth").alpha == exported.alpha


def test_a_folder_of_peft_becomes_a_flat_file(tmp_path: Path, base: Path, make_adapter: Any) -> None:
    slim = make_adapter(tmp_path / "slim.pth", base, r=4, with_meta=False, full=("blocks.0.ln1.weight",))
    exported = export_adapter(read_adapter(tmp_path / "slim.pth"), tmp_path / "peft", alpha=5.0)
    assert (exported.format, exported.alpha) == ("peft", 5.0)
    back = export_adapter(read_adapter(tmp_path / "peft"), tmp_path / "flat.pth")
    assert back.alpha == 5.0
    flat = torch.load(tmp_path / "flat.pth", weights_only=True)
    assert flat.keys() == slim.keys()
    assert all(torch.equal(flat[name], tensor) for name, tensor in slim.items())


def by_peft(base: Path, folder: Path) -> Tensors:
    """What peft's layers make of the weights, from the folder alone, as its documentation says."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    found = load_file(folder / "adapter_model.safetensors")
    weights = {name: tensor.double() for name, tensor in torch.load(base, weights_only=True).items()}
    for module in config["target_modules"]:
        stem, W = f"base_model.model.{module}", weights[f"{module}.weight"]
        if config["peft_type"] == "MISS":
            D = found[f"{stem}.miss_block"].double()
            columns = torch.arange(W.shape[1]) % config["r"]
            weights[f"{module}.weight"] = W + D[columns].t()
            continue
        r = config["rank_pattern"].get(module, config["r"])
        A, B = (found[f"{stem}.lora_{x}.weight"].double() for x in "AB")
        assert A.shape[0] == r
        V = W + config["lora_alpha"] / r * (B @ A)
        if config["use_dora"]:
            V *= (found[f"{stem}.lora_magnitude_vector"].double() / V.norm(dim=1)).unsqueeze(1)
        weights[f"{module}.weight"] = V
    for module in config["modules_to_save"] or ():
        for part in ("weight", "bias"):
            if (tensor := found.get(f"base_model.model.{module}.{part}")) is not None:
                weights[f"{module}.{part}"] = tensor.double()
    return weights


def lora(tensors: Tensors, base: Tensors) -> Tensors:
    return tensors


def uneven(tensors: Tensors, base: Tensors) -> Tensors:
    return {
        name: (t[:2] if name.endswith("_A") else t[:, :2]) if ".ffn.value.lora" in name else t
        for name, t in tensors.items()
    }


def dora(tensors: Tensors, base: Tensors) -> Tensors:
    modules = [name.removesuffix(".lora_A") for name in tensors if name.endswith("_A")]
    return tensors | {f"{m}.lora_M": 1.1 * base[f"{m}.weight"].norm(dim=1) for m in modules}


def miss(tensors: Tensors, base: Tensors) -> Tensors:
    modules = [name.removesuffix(".lora_A") for name in tensors if name.endswith("_A")]
    return {f"{m}.disha": 0.1 * torch.randn(24, len(base[f"{m}.weight"])) for m in modules}


@pytest.mark.parametrize("make", [lora, uneven, dora, miss])
def test_peft_gets_what_was_trained(
    tmp_path: Path, base: Path, make_adapter: Any, make: Callable[[Tensors, Tensors], Tensors]
) -> None:
    weights = torch.load(base, weights_only=True)
    full = ("blocks.1.ln2.bias", "head.weight")
    tensors = make(make_adapter(tmp_path / "a.pth", base, with_meta=False, full=full), weights)
    torch.save(tensors, tmp_path / "a.pth")
    alpha = None if make is miss else 6.0
    export_adapter(read_adapter(tmp_path / "a.pth"), tmp_path / "peft '$(x)' 名", alpha=alpha)
    merge(base, tmp_path / "a.pth", tmp_path / "ours.pth", alpha=alpha, verify=False)
    ours = torch.load(tmp_path / "ours.pth", weights_only=True)
    theirs = by_peft(base, tmp_path / "peft '$(x)' 名")
    for name, tensor in ours.items():
        assert (tensor.double() - theirs[name]).abs().max() < 3e-6, name
    merge(base, tmp_path / "peft '$(x)' 名", tmp_path / "again.pth", verify=False)
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert all((again[name] - tensor).abs().max() < 2e-6 for name, tensor in ours.items())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("tensors", "output"),
    [
        ({"key.lora_A": (2, 64), "key.lora_B": (64, 2), "key.lora_M": (64,)}, "out.pth"),
        ({"key.disha": (4, 16, 16)}, "folder"),
        ({"key.lora_A": (2, 64), "key.lora_B": (64, 2), "x_r": (64,)}, "folder"),
        ({"key.lora_A": (2, 64), "key.lora_B": (64, 2), "value.disha": (8, 64)}, "out.pth"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], output: str
) -> None:
    stems = {
        name: f"blocks.0.att.{name[3:]}" if name.startswith("..") else f"blocks.0.att.key.{name}"
        for name in tensors
    }
    torch.save({stems[name]: torch.ones(shape) for name, shape in tensors.items()}, tmp_path / "a.pth")
    with pytest.raises(InputError) as caught:
        export_adapter(read_adapter(tmp_path / "a.pth"), tmp_path / output, alpha=1.0)
    assert caught.value.code == "adapter_export"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_the_command_tells_alpha_and_overwrites_nothing(
    tmp_path: Path, base: Path, make_adapter: Any
) -> None:
    make_adapter(tmp_path / "slim.pth", base, with_meta=False)
    out = tmp_path / "out.pth"

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = ["export-adapter", "--adapter", str(tmp_path / "slim.pth"), "--out", str(out), *more]
        return subprocess.run(
            [sys.executable, "-m", "trainer", *command], capture_output=True, text=True, check=False
        )

    refused = run()
    assert refused.returncode == 2
    assert "error[adapter_alpha_unknown]" in refused.stderr
    done = run("--alpha", "12", "--dtype", "bf16", "--json")
    assert done.returncode == 0
    assert "Recognised: a LoRA as RWKV-Runner" in done.stderr
    assert "merge it with alpha 12 (R 4)" in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["format"], result["alpha"]) == ("slim", 12.0)
    assert result["recognised"]["code"] == "adapter_is_slim"
    content = out.read_bytes()
    assert {t.dtype for t in torch.load(out, weights_only=True).values()} == {torch.bfloat16}
    assert run("--alpha", "3").returncode == 2
    assert out.read_bytes() == content

"""Each tool's files, built as the tool writes them, are recognised and merged to what float64 says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainer.adapters.files import open_adapter, recognised
from trainer.adapters.merge import Addition, merge
from trainer.contract.errors import InputError

Tensors = dict[str, torch.Tensor]
Values = dict[str, np.ndarray]
ODD = 'it\'s "a" $(touch x) 名'


class Model:
    """A base in fp32, and the random tensors that tools train beside it."""

    def __init__(self, folder: Path, make_checkpoint: Any, generation: str) -> None:
        self.path = folder / f"{ODD} base.pth"
        self.tensors: Tensors = make_checkpoint(self.path, generation, dtype="fp32")
        self.exact: Values = {name: tensor.double().numpy() for name, tensor in self.tensors.items()}
        self.generator = torch.Generator().manual_seed(3)

    def modules(self, att: Iterable[str], ffn: Iterable[str]) -> list[str]:
        names = [f"att.{name}" for name in att] + [f"ffn.{name}" for name in ffn]
        return [f"blocks.{block}.{name}" for block in range(2) for name in names]

    def random(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return (0.1 * torch.randn(*shape, generator=self.generator)).to(dtype)

    def lora(self, modules: Iterable[str], r: int = 4) -> Tensors:
        """bf16 factors of every module, as RWKV-LM-LoRA names them."""
        out: Tensors = {}
        for module in modules:
            rows, columns = self.tensors[f"{module}.weight"].shape
            out[f"{module}.lora_A"] = self.random(r, columns)
            out[f"{module}.lora_B"] = self.random(rows, r)
        return out

    def merged_with(self, tensors: Tensors, scale: Callable[[str, int], float]) -> Values:
        """LoRA by its definition in float64; other tensors replace the base's."""
        out = dict(self.exact)
        for name, tensor in tensors.items():
            value = tensor.double().numpy()
            if name.endswith(".lora_A"):
                module = name.removesuffix(".lora_A")
                B = tensors[f"{module}.lora_B"].double().numpy()
                out[f"{module}.weight"] = self.exact[f"{module}.weight"] + scale(module, len(value)) * (
                    B @ value
                )
            elif name in out:
                out[name] = value.reshape(out[name].shape)
        return out

    def check(self, folder: Path, wanted: Values, additions: Any, **options: Any) -> None:
        report = merge(self.path, additions, folder / f"{ODD} out.pth", verify=False, **options)
        merged = torch.load(report.output, weights_only=True)
        assert list(merged) == list(self.tensors)
        for name, value in wanted.items():
            assert np.abs(merged[name].double().numpy() - value).max() < 2e-6, name
        changed = {name for name in wanted if not np.array_equal(wanted[name], self.exact[name])}
        assert report.changed == len(changed) > 0


@pytest.fixture
def model(tmp_path: Path, make_checkpoint: Any) -> Callable[[str], Model]:
    return lambda generation: Model(tmp_path, make_checkpoint, generation)


def sentence(path: Path, **options: Any) -> str:
    problem = recognised(open_adapter(path, **options))
    assert problem.sentence("zh_CN").startswith("已识别：")
    return problem.sentence()


# Tool -> generation, adapted projections of att and of ffn, tensors trained in full, what it is taken for.
SLIM = {
    "Blealtan v4": ("4", "key value receptance", "key receptance value",
                    "blocks.1.att.time_decay blocks.0.ln1.weight", "RWKV-4/5/6, L2-D64"),
    "Runner v4": ("4", "key value receptance", "key receptance value",
                  "blocks.0.att.time_mix_k", "RWKV-4/5, L2-D64"),
    "Runner v5": ("5.2", "receptance key value gate", "key receptance value",
                  "blocks.1.att.time_mix_g blocks.0.att.ln_x.bias", "RWKV-5, L2-D64"),
    "Runner v6": ("6", "receptance key value output gate", "key receptance value",
                  "blocks.1.att.time_maa_w1 blocks.1.att.time_faaaa", "RWKV-6, L2-D64"),
    "PEFT v7": ("7", "receptance key value output", "key value", "blocks.1.ln2.weight ln_out.bias",
                "RWKV-7, L2-D64"),
}  # fmt: skip


@pytest.mark.parametrize("tool", SLIM)
@pytest.mark.parametrize("prefix", ["", "_forward_module.", "_forward_module.model."])
def test_slim_files(tmp_path: Path, model: Callable[[str], Model], tool: str, prefix: str) -> None:
    generation, att, ffn, full, taken_for = SLIM[tool]
    base = model(generation)
    tensors = base.lora(base.modules(att.split(), ffn.split()))
    tensors |= {name: base.random(*base.tensors[name].shape) for name in full.split()}
    path = tmp_path / f"{ODD} rwkv-3.pth"
    torch.save({prefix + name: tensor for name, tensor in tensors.items()}, path)
    wanted = base.merged_with(tensors, lambda module, r: 9.0 / r)
    base.check(tmp_path, wanted, path, alpha=9.0)
    said = sentence(path)
    assert "RWKV-LM-LoRA" in said
    assert taken_for in said
    assert "R 4" in said


@pytest.mark.parametrize("name", ["disha", "bone"])
@pytest.mark.parametrize("r", [16, 24])
def test_miss_of_rwkv_peft(tmp_path: Path, model: Callable[[str], Model], name: str, r: int) -> None:
    base = model("7")
    tensors, wanted = {}, dict(base.exact)
    for module in base.modules(["receptance", "output"], ["key", "value"]):
        W = base.exact[f"{module}.weight"].copy()
        D = base.random(r, len(W))
        tensors[f"{module}.{name}"] = D
        for first in range(0, W.shape[1], r):  # the last block may be narrower
            W[:, first : first + r] += D.double().numpy().T[:, : W.shape[1] - first]
        wanted[f"{module}.weight"] = W
    torch.save(tensors, tmp_path / "rwkv-0.pth")
    base.check(tmp_path, wanted, tmp_path / "rwkv-0.pth")
    assert "MiSS (DiSHA, Bone) as RWKV-PEFT saves it, for RWKV-7, L2-D64, R" in sentence(
        tmp_path / "rwkv-0.pth"
    )


def bat(W: np.ndarray, D: np.ndarray, *, by_output: bool) -> np.ndarray:
    """W_ab += W_ab D + D for every r x r block, D that of the block's outputs or of its inputs."""
    out, r = W.copy(), D.shape[-1]
    for a in range(W.shape[0] // r):
        for b in range(W.shape[1] // r):
            block = W[a * r : (a + 1) * r, b * r : (b + 1) * r]
            chosen = D[a if by_output else b]
            out[a * r : (a + 1) * r, b * r : (b + 1) * r] += block @ chosen + chosen
    return out


def test_bat_of_rwkv_peft_counts_blocks_of_inputs(
    tmp_path: Path, model: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.adapters import updates

    monkeypatch.setattr(updates, "BLOCK_ELEMENTS", 64 * 24)  # blocks of rows that cut through r x r blocks
    base = model("7")
    tensors, wanted = {}, dict(base.exact)
    for module in base.modules(["key", "output"], ["key", "value"]):
        W = base.exact[f"{module}.weight"]
        tensors[f"{module}.disha"] = base.random(W.shape[1] // 16, 16, 16)
        wanted[f"{module}.weight"] = bat(W, tensors[f"{module}.disha"].double().numpy(), by_output=False)
    torch.save(tensors, tmp_path / "rwkv-0.pth")
    base.check(tmp_path, wanted, tmp_path / "rwkv-0.pth")


def principal(W: torch.Tensor, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A0 and B0 as RWKV-PEFT's pissa_init makes them."""
    U, S, V = torch.svd_lowrank(W, r, niter=4)
    root = torch.diag(S.sqrt())
    return (root @ V.t()).bfloat16(), (U @ root).bfloat16()


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("name", ["init_pissa.pth", "init_lora.pth", "elsewhere/start.pth"])
def test_pissa_of_rwkv_peft(tmp_path: Path, model: Callable[[str], Model], prefix: str, name: str) -> None:
    base = model("7")
    start, tensors, wanted = {}, {}, dict(base.exact)
    for module in base.modules(["receptance", "value"], ["key", "value"]):
        A0, B0 = principal(base.tensors[f"{module}.weight"], 4)
        A, B = (x + 0.1 * base.random(*x.shape) for x in (A0, B0))
        start |= {f"{prefix}{module}.init_lora_A": A0, f"{prefix}{module}.init_lora_B": B0}
        tensors |= {f"{module}.lora_A": A, f"{module}.lora_B": B}
        products = [y.double().numpy() @ x.double().numpy() for x, y in ((A, B), (A0, B0))]
        wanted[f"{module}.weight"] = base.exact[f"{module}.weight"] + products[0] - products[1]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    torch.save(start, tmp_path / name)
    torch.save(tensors, tmp_path / "rwkv-1.pth")
    given = tmp_path / name if "/" in name else None
    base.check(tmp_path, wanted, [Addition(tmp_path / "rwkv-1.pth", pissa_init=given)])
    said = sentence(tmp_path / "rwkv-1.pth", pissa_init=given)
    assert "PiSSA of RWKV-PEFT" in said
    assert "R 8 and alpha 8" in said
    with pytest.raises(InputError) as caught:
        open_adapter(tmp_path / name)
    assert (caught.value.code, caught.value.problem.args["kind"]) == ("adapter_kind", "PiSSA init")


def test_a_lora_beside_the_start_of_another_pissa_stays_a_lora(
    tmp_path: Path, model: Callable[[str], Model]
) -> None:
    base = model("7")
    tensors = base.lora(base.modules(["key"], ["key"]))
    start = {name.replace(".lora_", ".init_lora_"): base.random(*t.shape) for name, t in tensors.items()}
    torch.save(start, tmp_path / "init_pissa.pth")
    torch.save(tensors, tmp_path / "rwkv-1.pth")
    assert open_adapter(tmp_path / "rwkv-1.pth").writer == "slim"


def test_a_start_that_belongs_to_another_adapter_is_refused(
    tmp_path: Path, model: Callable[[str], Model]
) -> None:
    base = model("7")
    tensors = base.lora(base.modules(["key"], ["key"]))
    start = {
        name.replace(".lora_", ".init_lora_"): t
        for name, t in base.lora(base.modules(["key"], []), 3).items()
    }
    torch.save(start, tmp_path / "start.pth")
    torch.save(tensors, tmp_path / "rwkv-1.pth")
    with pytest.raises(InputError) as caught:
        open_adapter(tmp_path / "rwkv-1.pth", tmp_path / "start.pth")
    assert caught.value.problem.args["path"] == str(tmp_path / "start.pth")


def peft_folder(folder: Path, tensors: Tensors, *, binary: bool = False, **config: Any) -> Path:
    """What peft's save_pretrained leaves: fp32 tensors behind its prefix, and its configuration."""
    folder.mkdir()
    named = {f"base_model.model.{name}": tensor.float().contiguous() for name, tensor in tensors.items()}
    if binary:
        torch.save(named, folder / "adapter_model.bin")
    else:
        save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    defaults = {
        "peft_type": "LORA", "task_type": None, "base_model_name_or_path": "", "bias": "none",
        "fan_in_fan_out": False, "inference_mode": True, "init_lora_weights": True, "lora_dropout": 0.0,
        "modules_to_save": None, "rank_pattern": {}, "alpha_pattern": {}, "use_dora": False,
        "use_rslora": False,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(defaults | config), encoding="utf-8")
    return folder


def as_peft(tensors: Tensors) -> Tensors:
    return {f"{name}.weight" if ".lora_" in name else name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("by", ["folder", "weights", "config"])
def test_lora_of_peft_with_patterns(
    tmp_path: Path, model: Callable[[str], Model], rslora: bool, by: str
) -> None:
    base = model("7")
    tensors = base.lora(base.modules(["receptance", "output"], ["key"]))
    tensors |= base.lora(base.modules([], ["value"]), r=2)
    tensors["head.weight"] = base.random(*base.tensors["head.weight"].shape)
    folder = peft_folder(
        tmp_path / f"{ODD} peft", as_peft(tensors), r=4, lora_alpha=12, use_rslora=rslora,
        binary=by == "weights", rank_pattern={"ffn.value": 2},
        alpha_pattern={"att.output": 3, r"blocks\.1\.ffn\.key": 20, "tput": 99},
        target_modules=["receptance", "output", "key", "value"], modules_to_save=["head"],
    )  # fmt: skip

    def scale(module: str, r: int) -> float:
        special = {"blocks.0.att.output": 3, "blocks.1.att.output": 3, "blocks.1.ffn.key": 20}
        return special.get(module, 12) / (math.sqrt(r) if rslora else r)

    path = {
        "folder": folder,
        "weights": folder / "adapter_model.bin",
        "config": folder / "adapter_config.json",
    }[by]
    base.check(tmp_path, base.merged_with(tensors, scale), path)
    said = sentence(folder)
    assert "Hugging Face's peft, lora for RWKV-" in said
    assert "alpha 12" in said


@pytest.mark.parametrize("name", ["lora_magnitude_vector", "lora_magnitude_vector.weight"])
def test_dora_of_peft(tmp_path: Path, model: Callable[[str], Model], name: str) -> None:
    base = model("6")
    tensors = base.lora(base.modules(["gate"], ["receptance"]))
    wanted = dict(base.exact)
    named = as_peft(tensors)
    for module in base.modules(["gate"], ["receptance"]):
        M = base.random(64, dtype=torch.float32).abs() + 1
        named[f"{module}.{name}"] = M
        A, B = (tensors[f"{module}.lora_{x}"].double().numpy() for x in "AB")
        V = base.exact[f"{module}.weight"] + 8 / 4 * (B @ A)
        wanted[f"{module}.weight"] = V * (M.double().numpy() / np.linalg.norm(V, axis=1))[:, None]
    folder = peft_folder(tmp_path / "peft", named, r=4, lora_alpha=8, use_dora=True)
    base.check(tmp_path, wanted, folder)
    assert open_adapter(folder).method == "dora"


@pytest.mark.parametrize(("peft_type", "name"), [("MISS", "miss_block"), ("BONE", "bone_block")])
@pytest.mark.parametrize("mode", [True, "bat"])
def test_miss_and_bat_of_peft(
    tmp_path: Path, model: Callable[[str], Model], peft_type: str, name: str, mode: bool | str
) -> None:
    base = model("7")
    tensors, wanted = {}, dict(base.exact)
    for module in base.modules(["key"], ["key", "value"]):
        W = base.exact[f"{module}.weight"].copy()
        D = base.random(*((len(W) // 16, 16, 16) if mode == "bat" else (16, len(W))))
        tensors[f"{module}.{name}"] = D
        exact = D.double().numpy()
        wanted[f"{module}.weight"] = (
            bat(W, exact, by_output=True) if mode == "bat" else W + np.tile(exact.T, (1, W.shape[1] // 16))
        )
    folder = peft_folder(tmp_path / "peft", tensors, peft_type=peft_type, r=16, init_weights=mode)
    base.check(tmp_path, wanted, folder)


def test_a_whole_state_dict_of_peft_names_its_adapter(tmp_path: Path, model: Callable[[str], Model]) -> None:
    base = model("7")
    tensors = base.lora(base.modules(["key"], []))
    named = {f"{name}.default.weight": tensor for name, tensor in tensors.items()}
    named["head.modules_to_save.default.weight"] = base.random(*base.tensors["head.weight"].shape)
    torch.save({f"base_model.model.{name}": tensor for name, tensor in named.items()}, tmp_path / "all.pth")
    whole = tensors | {"head.weight": named["head.modules_to_save.default.weight"]}
    base.check(tmp_path, base.merged_with(whole, lambda module, r: 6.0 / r), tmp_path / "all.pth", alpha=6.0)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"peft_type": "IA3"}, "adapter_kind"),
        ({"peft_type": "MISS", "init_weights": "mini"}, "adapter_kind"),
        ({"init_lora_weights": "pissa_niter_4", "lora_alpha": 4}, "adapter_kind"),
        ({"lora_alpha": "much"}, "adapter_unreadable"),
        ({"lora_alpha": 4, "alpha_pattern": {"(": 3}}, "adapter_unreadable"),
    ],
)
def test_what_peft_cannot_mean_here_is_refused(
    tmp_path: Path, model: Callable[[str], Model], config: dict[str, Any], code: str
) -> None:
    base = model("7")
    folder = peft_folder(tmp_path / "peft", as_peft(base.lora(base.modules(["key"], []))), **config)
    with pytest.raises(InputError) as caught:
        open_adapter(folder)
    assert caught.value.code == code


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_adapter(tmp_path)
    assert caught.value.code == "adapter_not_adapter"


def test_tuned_states_of_any_tool(tmp_path: Path, model: Callable[[str], Model]) -> None:
    torch.save({f"blocks.{i}.att.time_state": torch.zeros(2, 32, 32) for i in range(2)}, tmp_path / "s.pth")
    assert sentence(tmp_path / "s.pth").startswith("Recognised: tuned states for RWKV-?, L2-D?")


def test_another_base_is_told_by_what_both_seem_to_be(
    tmp_path: Path, model: Callable[[str], Model], make_checkpoint: Any
) -> None:
    base = model("6")
    torch.save(base.lora(base.modules(["receptance", "gate"], ["key"])), tmp_path / "a.pth")
    make_checkpoint(tmp_path / "other.pth", "7", n_layer=3, n_embd=96)
    with pytest.raises(InputError) as caught:
        merge(tmp_path / "other.pth", tmp_path / "a.pth", tmp_path / "out.pth", alpha=1.0)
    args = caught.value.problem.args
    assert caught.value.code == "adapter_mismatch"
    assert args["tensors"] == (
        "blocks.0.att.receptance.lora_A, blocks.0.att.receptance.lora_B, blocks.0.att.gate.lora_A, … (12)"
    )
    assert (args["adapter_model"], args["base_model"]) == ("RWKV-5/6, L2-D64", "RWKV-7, L3-D96")
    assert not (tmp_path / "out.pth").exists()

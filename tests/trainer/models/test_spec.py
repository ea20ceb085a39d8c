from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.contract.errors import InputError
from trainer.models.checkpoint import TensorInfo, open_checkpoint
from trainer.models.layouts import ModelSpec, expected_shapes
from trainer.models.spec import detect, detect_file

GENERATIONS = ["4", "5.0", "5.1", "5.2", "6", "7"]


def infos_of(tensors: dict[str, torch.Tensor], dtype: str = "bf16") -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(dtype, tuple(tensor.shape), tensor.numel() * 2) for name, tensor in tensors.items()
    }


def refusal(infos: dict[str, TensorInfo], other_keys: tuple[str, ...] = ()) -> InputError:
    with pytest.raises(InputError) as caught:
        detect(infos, "model.pth", other_keys)
    return caught.value


@pytest.mark.parametrize("head_size", [32, 64, 128])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_sizes_come_from_the_file_in_any_key_order(
    checkpoint_tensors: Any, generation: str, head_size: int
) -> None:
    tensors = checkpoint_tensors(generation, n_layer=3, n_embd=256, vocab=301, head_size=head_size)
    items = list(infos_of(tensors).items())
    for seed in range(4):
        if seed:
            random.Random(seed).shuffle(items)
        spec = detect(dict(items))
        assert (spec.generation, spec.n_layer, spec.n_embd, spec.dim_att) == (generation, 3, 256, 256)
        assert spec.vocab_size == 301
        assert spec.dim_ffn == (1024 if generation in ("4", "5.0", "7") else 896)
        heads = (0, 0) if generation == "4" else (head_size, 256 // head_size)
        assert (spec.head_size, spec.n_head) == heads
        assert spec.parameters == sum(tensor.numel() for tensor in tensors.values())


def test_ranks_of_7_come_from_shapes(checkpoint_tensors: Any) -> None:
    ranks = {"w": 5, "a": 6, "v": 7, "g": 9}
    for layer0_v in (True, False):
        spec = detect(infos_of(checkpoint_tensors("7", ranks=ranks, layer0_v=layer0_v)))
        assert spec.ranks == ranks
        assert spec.layer0_v is layer0_v


def test_a_single_layer_without_v_has_no_rank_v(checkpoint_tensors: Any) -> None:
    spec = detect(infos_of(checkpoint_tensors("7", n_layer=1, layer0_v=False)))
    assert "v" not in spec.ranks


def test_parameters_of_7_match_the_formula(checkpoint_tensors: Any) -> None:
    # 2VC + 4C + L(19C + 12C^2 + 2C(Dw + Da + Dv + Dg)), ln0 counted in 4C.
    ranks = {"w": 8, "a": 12, "v": 16, "g": 20}
    spec = detect(infos_of(checkpoint_tensors("7", n_layer=3, n_embd=64, vocab=300, ranks=ranks)))
    C, V, L = 64, 300, 3
    assert spec.parameters == 2 * V * C + 4 * C + L * (19 * C + 12 * C**2 + 2 * C * sum(ranks.values()))


@pytest.mark.parametrize("generation", ["5.0", "5.1", "5.2"])
@pytest.mark.parametrize("u_key", ["time_first", "time_faaaa"])
def test_both_spellings_of_the_bonus(checkpoint_tensors: Any, generation: str, u_key: str) -> None:
    spec = detect(infos_of(checkpoint_tensors(generation, u_key=u_key)))
    assert (spec.generation, spec.bonus_key) == (generation, u_key)


def test_decay_kept_as_a_column_is_5_1(checkpoint_tensors: Any) -> None:
    tensors = checkpoint_tensors("5.1")
    columns = {
        name: tensor.unsqueeze(1) if name.endswith(("time_decay", "time_first")) else tensor
        for name, tensor in tensors.items()
    }
    assert detect(infos_of(columns)).generation == "5.1"


def test_state_tuned_6_is_a_model(checkpoint_tensors: Any) -> None:
    tensors = checkpoint_tensors("6")
    states = {f"blocks.{i}.att.time_state": torch.zeros(2, 32, 32) for i in range(2)}
    assert detect(infos_of({**tensors, **states})).generation == "6"


def test_types_are_listed_by_size(checkpoint_tensors: Any) -> None:
    infos = infos_of(checkpoint_tensors("7"))
    infos["blocks.0.att.w0"] = TensorInfo("fp32", (1, 1, 64), 256)
    spec = detect(infos)
    assert spec.dtype == "bf16"
    assert spec.dtypes == ("bf16", "fp32")


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_key_is_accounted_for(checkpoint_tensors: Any, generation: str) -> None:
    infos = infos_of(checkpoint_tensors(generation))
    for name in infos:
        error = refusal({key: info for key, info in infos.items() if key != name})
        # Without the keys that tell its generation, a file is taken for another one or for none.
        assert error.code in ("model_keys", "model_not_rwkv", "model_shape", "model_variant"), name


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_shape_is_checked(checkpoint_tensors: Any, generation: str) -> None:
    infos = infos_of(checkpoint_tensors(generation))
    for name, info in infos.items():
        wrong = (*info.shape[:-1], info.shape[-1] + 1)
        changed = {**infos, name: TensorInfo("bf16", wrong, 0)}
        assert refusal(changed).code == "model_shape", name


def test_missing_and_unexpected_are_named_and_counted(checkpoint_tensors: Any) -> None:
    infos = infos_of(checkpoint_tensors("7"))
    for name in "rwkv":
        del infos[f"blocks.1.att.x_{name}"]
    infos["blocks.1.att.extra"] = TensorInfo("bf16", (1,), 2)
    args = refusal(infos).problem.args
    assert args["missing"] == "blocks.1.att.x_r, blocks.1.att.x_w, blocks.1.att.x_k, … (4)"
    assert args["unexpected"] == "blocks.1.att.extra"


def test_a_missing_layer_is_named(checkpoint_tensors: Any) -> None:
    infos = infos_of(checkpoint_tensors("7", n_layer=3))
    without = {key: info for key, info in infos.items() if not key.startswith("blocks.1.")}
    assert refusal(without).problem.args["missing"] == "blocks.1.*"
    far = {**infos, "blocks.900000.x": TensorInfo("bf16", (1,), 2)}
    assert refusal(far).problem.args["missing"] == "blocks.3.*"


def test_two_generations_in_one_file_are_refused(checkpoint_tensors: Any) -> None:
    mixed = {**infos_of(checkpoint_tensors("6")), **infos_of(checkpoint_tensors("7"))}
    assert refusal(mixed).code == "model_keys"


@pytest.mark.parametrize(
    ("key", "variant"),
    [
        ("blocks.0.ffn.s_emb.weight", "DeepEmbed"),
        ("blocks.0.qkv.qq.weight", "DEA"),
        ("blocks.0.ffn.enn.weight", "RWKV-8"),
        ("blocks.0.att.gate_w1", "x060a"),
        ("blocks.0.att.time_maa_rkvw_w1", "x060a"),
        ("head_q.weight", "research"),
        ("blocks.0.ffnPre.key.weight", "research"),
    ],
)
def test_variants_are_refused_by_what_they_are(checkpoint_tensors: Any, key: str, variant: str) -> None:
    infos = {**infos_of(checkpoint_tensors("7")), key: TensorInfo("bf16", (64, 64), 8192)}
    error = refusal(infos)
    assert error.code == "model_variant"
    assert variant in error.problem.args["variant"]


def test_quantised_converted_and_foreign_types_are_refused(checkpoint_tensors: Any) -> None:
    infos = infos_of(checkpoint_tensors("7"))
    name = "blocks.0.att.key.weight"
    for dtype in ("uint8", "int8", "fp8_e4m3"):
        error = refusal({**infos, name: TensorInfo(dtype, (64, 64), 4096)})
        assert (error.code, error.problem.args["variant"]) == ("model_variant", f"quantised ({dtype})")
    for mark in ("_mx", "_ry", ".absmax", ".quant_state.bitsandbytes__nf4"):
        error = refusal({**infos, f"{name}{mark}": TensorInfo("fp32", (64,), 256)})
        assert (error.code, error.problem.args["variant"]) == ("model_variant", "quantised"), mark
    assert refusal({**infos, name: TensorInfo("fp64", (64, 64), 0)}).problem.args["variant"] == "fp64"
    converted = refusal(infos_of(checkpoint_tensors("5.2")), ("_strategy", "_version", "_rescale_layer"))
    assert converted.code == "model_variant"


@pytest.mark.parametrize(
    "key",
    [
        "blocks.0.att.key.lora_A", "blocks.0.att.key.disha", "blocks.0.att.key.bone", "lora_meta",
        "blocks.0.att.key.miss_block", "blocks.0.att.key.init_lora_A", "blocks.0.att.key.lora_A.weight",
    ],
)  # fmt: skip
def test_adapters_are_no_base_models(key: str) -> None:
    infos = {key: TensorInfo("bf16", (4, 64), 512), "blocks.0.ln1.weight": TensorInfo("bf16", (64,), 128)}
    assert refusal(infos).code == "model_is_adapter"


def test_states_and_other_networks_are_refused() -> None:
    state = {f"blocks.{i}.att.time_state": TensorInfo("bf16", (2, 32, 32), 4096) for i in range(2)}
    assert refusal(state).problem.args["variant"] == "state"
    llama = {"layers.0.attention.wq.weight": TensorInfo("bf16", (8, 8), 128)}
    assert refusal(llama).problem.args["variant"] == "Hugging Face"
    assert refusal({}).code == "model_not_rwkv"
    assert refusal({"conv1.weight": TensorInfo("fp32", (8, 3, 3, 3), 864)}).code == "model_not_rwkv"


def test_the_table_of_a_published_7_is_the_published_one() -> None:
    ranks = {"w": 64, "a": 64, "v": 32, "g": 128}
    spec = ModelSpec("7", 12, 768, 768, 3072, 65536, 64, 12, ranks, True)
    table = expected_shapes(spec)
    assert table["blocks.11.att.g2"] == (128, 768)
    assert table["blocks.0.att.r_k"] == (12, 64)
    assert table["blocks.3.ffn.value.weight"] == (768, 3072)
    assert "blocks.0.ffn.receptance.weight" not in table
    assert len(table) == 1 + 2 + 1 + 2 + 12 * (4 + 26 + 3)


def test_a_file_with_a_prefix_is_detected(tmp_path: Path, checkpoint_tensors: Any) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in checkpoint_tensors("7").items()}
    torch.save({"state_dict": tensors}, tmp_path / "model.pth")
    assert detect_file(open_checkpoint(tmp_path / "model.pth")).generation == "7"

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from trainer.contract.errors import AppError, InputError
from trainer.data.vocabulary import Vocabulary, parse_vocabulary, world_vocabulary_path
from trainer.models.checkpoint import TensorInfo
from trainer.models.gguf_file import TYPES, GgufWriter, encode, plan_gguf, read_back
from trainer.models.layouts import ModelSpec
from trainer.models.spec import detect

# Theirs -> ours, and the order of its dimensions there.
SMALL = {
    "6": {
        "blk.1.time_mix_lerp_x.weight": ("blocks.1.att.time_maa_x", (0, 1, 2)),
        "blk.1.time_mix_w1.weight": ("blocks.1.att.time_maa_w1", (1, 0)),
        "blk.1.time_mix_w2.weight": ("blocks.1.att.time_maa_w2", (0, 2, 1)),
        "blk.1.time_mix_decay.weight": ("blocks.1.att.time_decay", (0, 1, 2)),
        "blk.1.time_mix_decay_w1.weight": ("blocks.1.att.time_decay_w1", (1, 0)),
        "blk.1.time_mix_decay_w2.weight": ("blocks.1.att.time_decay_w2", (1, 0)),
        "blk.1.time_mix_first.weight": ("blocks.1.att.time_faaaa", (0, 1)),
        "blk.1.channel_mix_lerp_r.weight": ("blocks.1.ffn.time_maa_r", (0, 1, 2)),
        "token_embd_norm.bias": ("blocks.0.ln0.bias", (0,)),
        "blk.1.attn_norm_2.weight": ("blocks.1.ln2.weight", (0,)),
    },
    "7": {
        "blk.1.time_mix_w1.weight": ("blocks.1.att.w1", (1, 0)),
        "blk.1.time_mix_w2.weight": ("blocks.1.att.w2", (1, 0)),
        "blk.1.time_mix_v0.weight": ("blocks.1.att.v0", (0, 1, 2)),
        "blk.0.time_mix_v0.weight": ("blocks.0.att.a0", (0, 1, 2)),
        "blk.1.time_mix_k_a.weight": ("blocks.1.att.k_a", (0, 1, 2)),
        "blk.1.channel_mix_lerp_k.weight": ("blocks.1.ffn.x_k", (0, 1, 2)),
        "token_embd_norm.bias": ("blocks.0.ln0.bias", (0,)),
        "blk.1.attn_norm_2.weight": ("blocks.1.ln2.weight", (0,)),
    },
}


@pytest.fixture(scope="module")
def world() -> Vocabulary:
    path = world_vocabulary_path()
    return parse_vocabulary(path.read_bytes(), path)


def spec_of(tensors: dict[str, torch.Tensor]) -> ModelSpec:
    return detect({name: TensorInfo("fp32", tuple(t.shape), t.nbytes) for name, t in tensors.items()})


def write(path: Path, tensors: dict[str, torch.Tensor], dtype: str, world: Vocabulary) -> None:
    spec = spec_of(tensors)
    planned = plan_gguf(spec, dtype, path)
    with GgufWriter(path, spec, planned, dtype, "a model", world) as writer:
        for name, tensor in planned.items():
            rows = tensor.rearranged([tensors[source] for source in tensor.sources])
            # In two pieces, as a stream brings them.
            writer.write(name, [encode(part, tensor.type)[0] for part in rows.split((len(rows) + 1) // 2)])


def values(path: Path) -> dict[str, np.ndarray]:
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        decoded = gguf.dequantize(tensor.data, tensor.tensor_type)
        found[tensor.name] = decoded.reshape(shape).astype(np.float64)
    return found


def fields(path: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("generation", ["6", "7"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "q8_0"])
def test_the_values_are_the_models(
    tmp_path: Path, checkpoint_tensors: Any, world: Vocabulary, generation: str, dtype: str
) -> None:
    tensors = checkpoint_tensors(generation, dtype="fp32", layer0_v=False)
    write(tmp_path / "m.gguf", tensors, dtype, world)
    found = values(tmp_path / "m.gguf")
    exact = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    relative = {"fp32": 0.0, "bf16": 2.0**-8, "fp16": 2.0**-11, "q8_0": 0.0}[dtype]
    for ours, theirs in {
        "emb.weight": "token_embd.weight",
        "head.weight": "output.weight",
        "blocks.1.att.key.weight": "blk.1.time_mix_key.weight",
        "blocks.1.ffn.value.weight": "blk.1.channel_mix_value.weight",
    }.items():
        # Q8_0 has steps of a 127th of the largest of 32 neighbours, and keeps that step in fp16.
        peaks = np.abs(exact[ours].reshape(-1, 32)).max(1).repeat(32).reshape(exact[ours].shape)
        bound = peaks * (0.5 / 127 + 2.0**-11) if dtype == "q8_0" else relative * np.abs(exact[ours])
        assert (np.abs(found[theirs] - exact[ours]) <= bound + 1e-7).all(), theirs
    for name, (source, axes) in SMALL[generation].items():
        assert np.array_equal(found[name], exact[source].transpose(axes).squeeze()), name
    order = "rwkvag" if generation == "7" else "wkvrg"
    mix = "x_" if generation == "7" else "time_maa_"
    fused = np.stack([exact[f"blocks.0.att.{mix}{x}"] for x in order])
    assert np.array_equal(found["blk.0.time_mix_lerp_fused.weight"], fused)
    if generation == "7":
        assert np.array_equal(found["blk.1.time_mix_r_k.weight"], exact["blocks.1.att.r_k"].ravel())


def test_every_tensor_that_the_package_lists_is_there(tmp_path: Path, checkpoint_tensors: Any) -> None:
    for generation, arch in (("6", gguf.MODEL_ARCH.RWKV6), ("7", gguf.MODEL_ARCH.RWKV7)):
        planned = plan_gguf(spec_of(checkpoint_tensors(generation, dtype="fp32")), "fp16", tmp_path)
        stems = {name.rpartition(".")[0].replace("blk.0.", "blk.{bid}.") for name in planned}
        listed = {gguf.TENSOR_NAMES[tensor] for tensor in gguf.MODEL_TENSORS[arch]}
        single = {f"blk.{{bid}}.time_mix_lerp_{x}" for x in "wkvrg"}  # of 6, in place of the fused one
        assert {stem for stem in stems if "blk.1" not in stem} == listed - single


def test_llama_cpp_finds_sizes_and_vocabulary(
    tmp_path: Path, checkpoint_tensors: Any, world: Vocabulary
) -> None:
    write(tmp_path / "m.gguf", checkpoint_tensors("7", dtype="fp32"), "q8_0", world)
    found = fields(tmp_path / "m.gguf")
    assert found["general.architecture"] == "rwkv7"
    assert found["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert found["rwkv7.block_count"] == 2
    assert found["rwkv7.embedding_length"] == 64
    assert found["rwkv7.feed_forward_length"] == 256
    assert found["rwkv7.wkv.head_size"] == 32
    ranks = {"decay": 8, "iclr": 12, "value_residual_mix": 16, "gate": 20}
    assert {name: found[f"rwkv7.attention.{name}_lora_rank"] for name in ranks} == ranks
    assert found["tokenizer.ggml.model"] == "rwkv"
    tokens = found["tokenizer.ggml.tokens"]
    assert len(tokens) == 300
    assert tokens[0] == "<s>"
    assert tokens[1 + ord("A")] == "A"
    assert tokens[1 + 0xE4] == "\\xe4"
    assert tokens[found["tokenizer.ggml.eot_token_id"]] == "\\n\\n"
    assert found["tokenizer.ggml.token_type"][0] == gguf.TokenType.CONTROL


def test_rows_beyond_the_vocabulary_are_padding(
    tmp_path: Path, checkpoint_tensors: Any, world: Vocabulary
) -> None:
    tensors = checkpoint_tensors("6", dtype="fp32", vocab=65536, n_layer=1, n_embd=32)
    write(tmp_path / "m.gguf", tensors, "fp16", world)
    found = fields(tmp_path / "m.gguf")
    tokens = found["tokenizer.ggml.tokens"]
    assert (len(tokens), tokens[-1]) == (65536, "[PAD65535]")
    assert found["tokenizer.ggml.token_type"][-1] == gguf.TokenType.UNUSED
    assert found["rwkv6.rescale_every_n_layers"] == 0


def test_generations_that_llama_cpp_lacks_are_refused(tmp_path: Path, checkpoint_tensors: Any) -> None:
    with pytest.raises(InputError) as caught:
        plan_gguf(spec_of(checkpoint_tensors("5.2", dtype="fp32")), "fp16", tmp_path / "m.pth")
    assert caught.value.code == "gguf_generation"


def test_rows_that_no_block_divides_stay_fp16() -> None:
    rows, kind = torch.randn(3, 64), TYPES["q8_0"]
    encoded, decoded = encode(rows, kind)
    assert len(encoded) == 3 * 2 * 34
    assert (decoded - rows).abs().max() < rows.abs().max() / 127


def test_what_is_not_as_planned_is_found(tmp_path: Path, checkpoint_tensors: Any, world: Vocabulary) -> None:
    tensors = checkpoint_tensors("7", dtype="fp32")
    write(tmp_path / "m.gguf", tensors, "fp16", world)
    other = plan_gguf(spec_of(tensors), "q8_0", tmp_path)
    with pytest.raises(AppError) as caught:
        list(read_back(tmp_path / "m.gguf", other))
    assert caught.value.problem.args["tensor"] == "token_embd.weight"
    with pytest.raises(AppError):
        list(read_back(tmp_path / "m.gguf", dict(list(other.items())[1:])))

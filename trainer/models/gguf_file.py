"""GGUF files of RWKV-6 and 7, laid out as llama.cpp's own converter does it (its `conversion/rwkv.py`).

Names come from the package `gguf`; what differs from a .pth: low-rank matrices are transposed, the mixing
vectors of a block are one tensor, vectors lose their ones, and block 0 of a 7 gets stand-ins for v0, v1, v2.
Small tensors stay fp32, as llama.cpp wants them. Needs the package `gguf`.
"""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, TokenType
from torch import Tensor

from trainer.contract.errors import AppError, InputError
from trainer.data.vocabulary import Vocabulary
from trainer.models.layouts import ModelSpec, Shape, expected_shapes

TYPES = {
    "fp32": GGMLQuantizationType.F32,
    "bf16": GGMLQuantizationType.BF16,
    "fp16": GGMLQuantizationType.F16,
    "q8_0": GGMLQuantizationType.Q8_0,
}
_FILE_TYPES = {
    "fp32": gguf.LlamaFileType.ALL_F32,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "fp16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
_ARCHS = {"6": gguf.MODEL_ARCH.RWKV6, "7": gguf.MODEL_ARCH.RWKV7}
# Where the converter finds a model's tensors: the names of Hugging Face's RWKV-6 and of fla's RWKV-7.
_ROOTS = {"6": ("rwkv", "rwkv.blocks"), "7": ("model", "model.layers")}
# Mixed in this order by the tensor `time_mix_lerp_fused`.
_FUSED = {"6": [f"time_maa_{x}" for x in "wkvrg"], "7": [f"x_{x}" for x in "rwkvag"]}
_TRANSPOSED = {
    "6": {"time_maa_w1": (1, 0), "time_maa_w2": (0, 2, 1), "time_decay_w1": (1, 0), "time_decay_w2": (1, 0)},
    "7": {f"{x}{n}": (1, 0) for x in "wavg" for n in "12"},
}
_ALWAYS_FP32 = re.compile(r"time_mix_(first|w1|w2|decay_w1|decay_w2|lerp_fused)\.weight$|_norm\.weight$")
_CONTEXT_TOKENS = 1 << 20  # RWKV has no limit
_READ_BYTES = 1 << 24
# The template of RWKV World models. Its comment is what older versions of llama.cpp know it by.
_CHAT_TEMPLATE = (
    "{#- rwkv-world -#}"
    "{%- for m in messages -%}"
    "{{ {'user': 'User', 'assistant': 'Assistant', 'system': 'System'}.get(m.role, 'User') }}: "
    "{{- ' ' + m.content | trim }}{{ '\\n\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}Assistant:{%- endif -%}"
)


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor to be written.

    Attributes:
        sources: the model's tensors that it is made of, more than one where they are stacked.
        shape: as numpy's, the last dimension contiguous; GGUF itself counts the other way.
        axes: how a single source's dimensions are permuted; None where they are not.
    """

    sources: tuple[str, ...]
    shape: Shape
    type: GGMLQuantizationType
    axes: tuple[int, ...] | None = None

    @property
    def nbytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // block * size

    @property
    def is_rearranged(self) -> bool:
        """Whether its elements come in another order than those of its sources."""
        return self.axes is not None or len(self.sources) > 1

    def rearranged(self, sources: Sequence[Tensor]) -> Tensor:
        """The whole tensor of its whole sources."""
        made = torch.stack(list(sources)) if len(sources) > 1 else sources[0]
        return (made if self.axes is None else made.permute(self.axes)).reshape(self.shape).contiguous()


def plan_gguf(spec: ModelSpec, dtype: str, path: Path) -> dict[str, GgufTensor]:
    """Every tensor of the GGUF file, by its name there.

    Args:
        dtype: of `TYPES`, for the large matrices. Rows that are no multiple of 32 long stay fp16 in "q8_0".
        path: the model, named in the error.

    Raises:
        InputError: `gguf_generation`, llama.cpp has no such model.
    """
    if spec.generation not in _ARCHS:
        raise InputError("gguf_generation", path=str(path), generation=spec.generation)
    generation = spec.generation
    names = gguf.get_tensor_name_map(_ARCHS[generation], spec.n_layer)
    fused, transposed = _FUSED[generation], _TRANSPOSED[generation]
    planned: dict[str, GgufTensor] = {}

    def plan(name: str, sources: tuple[str, ...], shape: Shape, axes: tuple[int, ...] | None = None) -> None:
        planned[name] = GgufTensor(sources, shape, _type(name, shape, dtype), axes)

    for key, shape in expected_shapes(spec).items():
        block, _, leaf = key.rpartition(".att.")
        bid = block.removeprefix("blocks.")
        if leaf in fused:
            if leaf == fused[0]:
                sources = tuple(f"{block}.att.{x}" for x in fused)
                plan(f"blk.{bid}.time_mix_lerp_fused.weight", sources, (len(fused), 1, 1, spec.n_embd))
            continue
        if generation == "7" and block == "blocks.0" and leaf in ("v0", "v1", "v2"):
            continue
        name = names.get_name(_converter_name(key, generation), try_suffixes=(".weight", ".bias"))
        assert name is not None, key
        if not name.endswith((".weight", ".bias")):
            name += ".weight"
        axes = transposed.get(leaf)
        if axes is not None:
            shape = tuple(shape[axis] for axis in axes)
        elif leaf == "r_k":
            shape = (math.prod(shape),)
        elif shape[:2] == (1, 1):
            shape = shape[2:]
        plan(name, (key,), shape, axes)
        if generation == "7" and block == "blocks.0" and leaf in ("a0", "a1", "a2"):
            plan(name.replace("time_mix_a", "time_mix_v"), (key,), shape, axes)
    return planned


def encode(rows: Tensor, kind: GGMLQuantizationType) -> tuple[memoryview, Tensor]:
    """Bytes of fp32 rows [n, …], and what they stand for, in fp32."""
    values = rows.numpy()
    encoded = np.ascontiguousarray(gguf.quantize(values, kind))
    decoded = gguf.dequantize(encoded, kind).reshape(values.shape)
    return encoded.reshape(-1).view(np.uint8).data, torch.from_numpy(np.ascontiguousarray(decoded))


class GgufWriter:
    """A file being written; tensors come in the order of the plan.

    Args:
        path: is created, or emptied.
        dtype: of `TYPES`. name: the model's, for people.
        vocabulary: of the World tokenizer; cut or filled up to the model's size.
    """

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        planned: Mapping[str, GgufTensor],
        dtype: str,
        name: str,
        vocabulary: Vocabulary,
    ) -> None:
        self._pending = list(planned)
        self._planned = planned
        arch = gguf.MODEL_ARCH_NAMES[_ARCHS[spec.generation]]
        self._writer = gguf.GGUFWriter(None, arch)
        _describe(self._writer, spec, dtype, name)
        _add_vocabulary(self._writer, vocabulary, spec.vocab_size)
        for tensor_name, tensor in planned.items():
            self._writer.add_tensor_info(
                tensor_name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.type
            )
        self._writer.write_header_to_file(path)
        self._writer.write_kv_data_to_file()
        self._writer.write_ti_data_to_file()
        assert self._writer.fout is not None
        self._file = self._writer.fout[0]
        self._pad()

    def write(self, name: str, blocks: Iterable[bytes | memoryview]) -> int:
        """Write the next tensor's bytes; their CRC-32.

        Raises:
            ValueError: another tensor is next, or the bytes are not as many as planned.
            OSError: the disk is full or gone.
        """
        if not self._pending or self._pending[0] != name:
            raise ValueError(f"{name} is not the next tensor")
        checksum = nbytes = 0
        for block in blocks:
            self._file.write(block)
            checksum = zlib.crc32(block, checksum)
            nbytes += memoryview(block).nbytes
        if nbytes != self._planned[name].nbytes:
            raise ValueError(f"{name} has {nbytes} bytes, not {self._planned[name].nbytes}")
        self._pad()
        del self._pending[0]
        return checksum

    def _pad(self) -> None:
        self._writer.write_padding(self._file, self._file.tell())

    def __enter__(self) -> GgufWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._pending:
                    raise ValueError(f"{len(self._pending)} tensors were not written")
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._writer.close()


def read_back(path: Path, planned: Mapping[str, GgufTensor]) -> Iterator[tuple[str, Iterator[memoryview]]]:
    """Each tensor's bytes as the package `gguf` finds them, a few megabytes at a time.

    Raises:
        AppError: `merge_verify_failed`, a tensor is missing or has another shape or type.
    """
    reader = gguf.GGUFReader(path)
    if [tensor.name for tensor in reader.tensors] != list(planned):
        raise AppError("merge_verify_failed", tensor="GGUF")
    for found in reader.tensors:
        wanted = planned[found.name]
        shape = tuple(int(size) for size in reversed(found.shape))
        if shape != wanted.shape or found.tensor_type != wanted.type:
            raise AppError("merge_verify_failed", tensor=found.name)
        flat = found.data.reshape(-1).view(np.uint8)
        blocks = (flat[first : first + _READ_BYTES].data for first in range(0, flat.size, _READ_BYTES))
        yield found.name, blocks


def _type(name: str, shape: Shape, dtype: str) -> GGMLQuantizationType:
    if len(shape) <= 1 or _ALWAYS_FP32.search(name):
        return GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[TYPES[dtype]]
    return TYPES[dtype] if shape[-1] % block == 0 else GGMLQuantizationType.F16


def _converter_name(key: str, generation: str) -> str:
    root, blocks = _ROOTS[generation]
    name = key.replace(".att.", ".attention.").replace(".ffn.", ".feed_forward.")
    name = name.replace("blocks.0.ln0", f"{root}.pre_ln" if generation == "7" else f"{blocks}.0.pre_ln")
    name = name.replace("emb.", f"{root}.embeddings.").replace("ln_out.", f"{root}.ln_out.")
    return re.sub(r"^blocks\b", blocks, name)


def _describe(writer: gguf.GGUFWriter, spec: ModelSpec, dtype: str, name: str) -> None:
    writer.add_type("model")
    writer.add_name(name)
    writer.add_context_length(_CONTEXT_TOKENS)
    writer.add_embedding_length(spec.n_embd)
    writer.add_block_count(spec.n_layer)
    writer.add_layer_norm_eps(1e-5)
    writer.add_wkv_head_size(spec.head_size)
    writer.add_feed_forward_length(spec.dim_ffn)
    writer.add_head_count(0)  # has to be there; llama.cpp takes the heads from their size
    if spec.generation == "6":
        writer.add_rescale_every_n_layers(0)  # weights are as they were trained
        writer.add_time_mix_extra_dim(spec.ranks["mix"])
        writer.add_time_decay_extra_dim(spec.ranks["decay"])
    else:
        writer.add_decay_lora_rank(spec.ranks["w"])
        writer.add_iclr_lora_rank(spec.ranks["a"])
        writer.add_value_residual_mix_lora_rank(spec.ranks.get("v", spec.ranks["a"]))
        writer.add_gate_lora_rank(spec.ranks["g"])
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary, size: int) -> None:
    tokens, kinds = [b"<s>"], [TokenType.CONTROL]
    for token_id in range(1, size):
        token = vocabulary.tokens.get(token_id)
        # llama.cpp unescapes a token as Python writes it.
        tokens.append(f"[PAD{token_id}]".encode() if token is None else repr(token)[2:-1].encode())
        kinds.append(TokenType.UNUSED if token is None else TokenType.NORMAL)
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    # An empty line ends a turn.
    end_of_turn = next((i for i, token in vocabulary.tokens.items() if token == b"\n\n"), None)
    if end_of_turn is not None and end_of_turn < size:
        writer.add_eot_token_id(end_of_turn)
    writer.add_chat_template(_CHAT_TEMPLATE)

"""Which RWKV a checkpoint is, and that it is one in every key. The order of the keys plays no part."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from trainer.contract.errors import InputError
from trainer.models.checkpoint import CheckpointFile, TensorInfo
from trainer.models.layouts import ModelSpec, expected_shapes, optional_shapes
from trainer.models.stored import DTYPES

__all__ = ["ModelSpec", "detect", "detect_file"]

ADAPTER_MARKS = (
    ".lora_A", ".lora_B", ".lora_M", ".disha", ".bone", ".bone_block", ".miss_block", ".init_lora_A",
    ".init_lora_B", "lora_meta",
)  # fmt: skip
TRAINABLE_DTYPES = ("fp32", "bf16", "fp16")
# A mark in a key -> what the file then is. The first that occurs names it.
_VARIANTS = (
    (r"\.ffn\.enn\.weight$", "RWKV-8"),
    (r"\.qkv\.", "RWKV-7b, DEA"),
    (r"\.ffn\.s_emb", "RWKV-7a, DeepEmbed"),
    (r"\.att\.(gate_w1|time_maa_rkvw_w1)$", "x060a/b/c"),
    (r"^(head_q|head_k)\.weight$|^tiny_|\.ffnPre\.|^pos_emb_", "research code"),
    (r"\.weight_m[xy]$|\.weight_r[xy]$|_m[xy]$|\.(absmax|quant_state)", "quantised"),
    (r"(^|\.)attn\.|\.attention\.|^embeddings\.weight$|^layers\.\d", "Hugging Face"),
)


def detect_file(file: CheckpointFile) -> ModelSpec:
    """`detect` for an open file."""
    return detect(file.infos, file.path, file.other_keys)


def detect(
    infos: Mapping[str, TensorInfo], path: str | os.PathLike[str] = "", other_keys: Iterable[str] = ()
) -> ModelSpec:
    """Generation and sizes of a base model, with every key accounted for.

    Args:
        infos: name -> type and shape, in any order.
        path: named in errors.
        other_keys: keys of the file that hold no tensor.

    Raises:
        InputError: `model_is_adapter`, `model_not_rwkv`, `model_variant` (research variants, converted and
            quantised files, state files), `model_keys` (missing or unexpected tensors), `model_shape`.
    """
    found = _Found(infos, str(path))
    _refuse_others(found, set(other_keys))
    generation = _generation(found)
    spec = found.measure(generation)
    _account(found, spec)
    return spec


class _Found:
    """The tensors of a file, and sizes taken from them."""

    def __init__(self, infos: Mapping[str, TensorInfo], path: str) -> None:
        self.infos = infos
        self.path = path
        ids = {int(match[1]) for key in infos if (match := re.match(r"blocks\.(\d{1,6})\.", key))}
        self.n_layer = len(ids)
        self.gap = next((i for i in range(len(ids)) if i not in ids), None)

    def has(self, name: str) -> bool:
        return name in self.infos

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """The shape of a tensor that sizes are read from.

        Raises:
            InputError: `model_keys`, it is missing; `model_shape`, it has another number of dimensions.
        """
        if name not in self.infos:
            raise InputError("model_keys", path=self.path, missing=name, unexpected="—")
        shape = self.infos[name].shape
        if len(shape) != dims or 0 in shape:
            expected = "[" + ", ".join("…" * dims) + "]"
            raise InputError(
                "model_shape", path=self.path, tensor=name, expected=expected, found=str(list(shape))
            )
        return shape

    def measure(self, generation: str) -> ModelSpec:
        """Sizes, ranks and types."""
        vocab_size, n_embd = self.shape("emb.weight", 2)
        dim_att, _ = self.shape("blocks.0.att.key.weight", 2)
        dim_ffn, _ = self.shape("blocks.0.ffn.key.weight", 2)
        n_head, head_size, bonus_key = self._heads(generation, dim_att)
        elements: Counter[str] = Counter()
        for info in self.infos.values():
            elements[info.dtype] += info.numel
        dtypes = tuple(name for name, _ in elements.most_common())
        return ModelSpec(
            generation, self.n_layer, n_embd, dim_att, dim_ffn, vocab_size, head_size, n_head,
            self._ranks(generation), self.has("blocks.0.att.v0"), bonus_key,
            dtypes[0], dtypes, sum(elements.values()),
        )  # fmt: skip

    def _heads(self, generation: str, dim_att: int) -> tuple[int, int, str | None]:
        if generation == "4":
            return 0, 0, None
        if generation in ("6", "7"):
            heads = self.shape(f"blocks.0.att.{'r_k' if generation == '7' else 'time_faaaa'}", 2)
            return heads[0], heads[1], None
        bonus_key = "time_first" if self.has("blocks.0.att.time_first") else "time_faaaa"
        if generation == "5.2":
            n_head, head_size = self.shape("blocks.0.att.time_decay", 2)
            return n_head, head_size, bonus_key
        n_head = self.infos["blocks.0.att.time_decay"].numel
        return n_head, dim_att // max(1, n_head), bonus_key

    def _ranks(self, generation: str) -> dict[str, int]:
        if generation == "6":
            _, mix, _ = self.shape("blocks.0.att.time_maa_w2", 3)
            return {"mix": mix, "decay": self.shape("blocks.0.att.time_decay_w1", 2)[1]}
        if generation != "7":
            return {}
        ranks = {name: self.shape(f"blocks.0.att.{name}1", 2)[1] for name in "wag"}
        # Block 0 never uses its v1; where it has none, the next block tells the rank.
        with_v = "blocks.0.att.v1" if self.has("blocks.0.att.v0") else "blocks.1.att.v1"
        if self.n_layer > 1 or self.has("blocks.0.att.v0"):
            ranks["v"] = self.shape(with_v, 2)[1]
        return ranks


def _refuse_others(found: _Found, other_keys: set[str]) -> None:
    """Refuse what is no base model by what it is."""
    keys, path = found.infos, found.path
    if any(mark in key for key in keys for mark in ADAPTER_MARKS):
        raise InputError("model_is_adapter", path=path)
    if keys and all(key.endswith("_state") for key in keys):
        raise InputError("model_variant", path=path, variant="state")
    if other_keys & {"_strategy", "_version", "_rescale_layer"}:
        raise InputError("model_variant", path=path, variant="rwkv convert_and_save_and_exit")
    for pattern, variant in _VARIANTS:
        if any(re.search(pattern, key) for key in keys):
            raise InputError("model_variant", path=path, variant=variant)
    if "emb.weight" not in keys or found.n_layer == 0:
        raise InputError("model_not_rwkv", path=path)
    if found.gap is not None:
        raise InputError("model_keys", path=path, missing=f"blocks.{found.gap}.*", unexpected="—")
    for info in keys.values():
        if not DTYPES[info.dtype].is_float or info.dtype.startswith("fp8"):
            raise InputError("model_variant", path=path, variant=f"quantised ({info.dtype})")
        if info.dtype not in TRAINABLE_DTYPES:
            raise InputError("model_variant", path=path, variant=info.dtype)


def _generation(found: _Found) -> str:
    def has(name: str) -> bool:
        return found.has(f"blocks.0.att.{name}")

    if has("r_k"):
        return "7"
    if has("time_maa_w1"):
        return "6"
    if not has("time_decay"):
        raise InputError("model_not_rwkv", path=found.path)
    if any(key.startswith("blocks.0.att.time_maa") for key in found.infos):
        raise InputError("model_variant", path=found.path, variant="x060a/b/c")
    if not has("ln_x.weight"):
        return "4"
    if not has("gate.weight"):
        return "5.0"
    decay = found.infos["blocks.0.att.time_decay"].shape
    return "5.2" if len(decay) == 2 and decay[1] > 1 else "5.1"


def _account(found: _Found, spec: ModelSpec) -> None:
    """Compare the file with the exact table of its generation."""
    expected = expected_shapes(spec)
    optional = optional_shapes(spec)
    missing = [key for key in expected if key not in found.infos]
    unexpected = [key for key in found.infos if key not in expected and key not in optional]
    if missing or unexpected:
        raise InputError("model_keys", path=found.path, missing=_few(missing), unexpected=_few(unexpected))
    for key, info in found.infos.items():
        shape = expected.get(key) or optional[key]
        # Some 5.0 and 5.1 files keep one value per head as [H, 1].
        squeezed = info.shape[:1] if info.shape[1:] == (1,) and len(shape) == 1 else info.shape
        if squeezed != shape:
            raise InputError(
                "model_shape", path=found.path, tensor=key, expected=str(list(shape)),
                found=str(list(info.shape)),
            )  # fmt: skip


def _few(names: list[str], limit: int = 3) -> str:
    """The first names and how many there are in all."""
    if not names:
        return "—"
    listed = ", ".join(names[:limit])
    return listed if len(names) <= limit else f"{listed}, … ({len(names)})"

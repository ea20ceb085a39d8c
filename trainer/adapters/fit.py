"""Whether an adapter belongs to a base: by the shapes of its tensors, and what each of both seems to be."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from trainer.adapters.leaves import LEAVES, STATE, sizes, split
from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import InputError
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import state_shapes
from trainer.models.spec import ModelSpec, detect

Shapes = Mapping[str, tuple[int, ...]]
_LISTED = 3
# A module or tensor of an adapter -> the generations that have it. The first that occurs decides.
_MARKS = (
    (r"\.att\.(x_[rwkvag]|[wav]0|[wavg][12]|k_k|k_a|r_k)$|\.ffn\.x_k$", "7"),
    (r"\.time_maa_|\.time_decay_w[12]$", "6"),
    (r"\.att\.time_mix_g$", "5"),
    (r"\.time_mix_k$", "4/5"),
    (r"\.att\.gate\.", "5/6"),
    (r"\.ffn\.receptance\.", "4/5/6"),
    (r"\.ffn\.key\.", "7"),
)


class Described(Protocol):
    """An adapter, in memory or not."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]: ...
    @property
    def meta(self) -> AdapterMeta | None: ...
    @property
    def path(self) -> Path: ...


def check_fits(adapter: Described, infos: Mapping[str, TensorInfo], path: str | os.PathLike[str]) -> None:
    """Compare an adapter with a base model.

    Args:
        infos: the base's tensors. path: the base, named in the error.

    Raises:
        InputError: `adapter_mismatch`, naming the first three tensors that the base lacks or has otherwise,
            and what the adapter's base and this one seem to be.
    """
    spec = detect(infos, path)
    shapes = adapter.shapes
    wrong = [name for name, shape in shapes.items() if not _fits(name, shape, infos, spec)]
    meta = adapter.meta
    if not wrong and meta is not None and _major(meta.generation) != _major(spec.generation):
        wrong = list(shapes)
    if wrong:
        listed = ", ".join(wrong[:_LISTED]) + (f", … ({len(wrong)})" if len(wrong) > _LISTED else "")
        raise InputError(
            "adapter_mismatch", path=str(adapter.path), tensors=listed, base=str(path),
            adapter_model=model_of(adapter), base_model=model_name(spec),
        )  # fmt: skip


def model_name(spec: ModelSpec) -> str:
    """Generation and sizes in the notation of the field, like "RWKV-7, L12-D768"."""
    return f"RWKV-{spec.generation}, L{spec.n_layer}-D{spec.n_embd}"


def model_of(adapter: Described) -> str:
    """What an adapter's base seems to be: as its metadata says, else as its tensors do."""
    meta, shapes = adapter.meta, adapter.shapes
    if meta is not None:
        return f"RWKV-{meta.generation}, L{meta.n_layer}-D{meta.n_embd}"
    found = next((g for mark, g in _MARKS if any(re.search(mark, name) for name in shapes)), "?")
    layers = [int(match[1]) for name in shapes if (match := re.match(r"blocks\.(\d+)\.", name))]
    return f"RWKV-{found}, L{max(layers, default=-1) + 1}-D{_width(shapes) or '?'}"


def _width(shapes: Shapes) -> int | None:
    """The model's width, from a tensor that has it in its shape."""
    for name, shape in shapes.items():
        parts = split(name)
        if parts is None:
            if re.search(r"\.ln\d\.|\.x_[rwkvag]$|\.time_(mix|maa)_[a-z]$|^emb\.", name):
                return shape[-1]
        elif re.search(r"\.(receptance|key|value|gate)$", parts[0]) and not parts[0].endswith("ffn.value"):
            known = sizes({parts[1]: shape}) or {}
            if "in" in known:
                return known["in"]
            if "out" in known and ".att." in parts[0]:
                return known["out"]
    return None


def _major(generation: str) -> str:
    return generation.partition(".")[0]


def _fits(name: str, shape: tuple[int, ...], infos: Mapping[str, TensorInfo], spec: ModelSpec) -> bool:
    parts = split(name)
    base = infos.get(name if parts is None else f"{parts[0]}.weight")
    if name.endswith(STATE):
        return shape == state_shapes(spec).get(name)
    if base is None:
        return False
    if parts is None:
        # Trained vectors may come without the base's leading ones.
        return _squeezed(shape) == _squeezed(base.shape)
    if len(base.shape) != 2:
        return False
    wanted = {"out": base.shape[0], "in": base.shape[1]}
    found = sizes({parts[1]: shape}) or {}
    r = found.get("r", 1)
    wanted |= {"out/r": wanted["out"] / r, "in/r": wanted["in"] / r}
    return all(size == wanted.get(dim, size) for dim, size in zip(LEAVES[parts[1]], shape, strict=True))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)

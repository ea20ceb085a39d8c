"""Adapter files: writing ours, reading ours and those of other RWKV trainers.

A file is a flat .pth of tensors: `blocks.0.att.receptance.lora_A` [r, in], `….lora_B` [out, r], and under
their own names the tensors that were trained in full. What it is travels as JSON in the uint8 tensor
`lora_meta` (mergers that drop every key with "lora" drop it too) and in a sidecar beside the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from trainer.contract.adapter_meta import META_KEY, AdapterMeta
from trainer.contract.errors import InputError
from trainer.contract.files import atomic_write, write_json
from trainer.models.checkpoint import CheckpointFile, TensorInfo, open_checkpoint

if TYPE_CHECKING:
    import torch

AdapterKind = Literal["ours", "slim"]
LORA_A, LORA_B = ".lora_A", ".lora_B"
# Marks of adapters that are something else than B @ A: another update rule than ours.
_OTHER_KINDS = re.compile(r"\.(disha|bone|bone_block|miss_block|lora_M|init_lora_[AB])(\.|$)")
_FULL_TENSOR = re.compile(r"(emb\.weight|head\.weight|ln_out\.(weight|bias)|blocks\.\d+\.\S+)$")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in memory.

    Attributes:
        tensors: LoRA factors and fully trained tensors, without the metadata tensor.
        meta: None for files of other tools.
        kind: "ours" (with metadata) or "slim" (RWKV-Runner, RWKV-LM-LoRA, RWKV-PEFT).
        path: where it was read from.
    """

    tensors: Mapping[str, torch.Tensor]
    meta: AdapterMeta | None
    kind: AdapterKind
    path: Path


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter file that is open but not loaded.

    Attributes:
        file: the open file. Names may be normalised: `names` maps ours to the file's.
        names: name as we write it -> name in the file, without the metadata tensor.
    """

    file: CheckpointFile
    meta: AdapterMeta | None
    kind: AdapterKind
    names: Mapping[str, str]

    @property
    def infos(self) -> dict[str, TensorInfo]:
        return {ours: self.file.infos[theirs] for ours, theirs in self.names.items()}

    @property
    def rank(self) -> int | None:
        """The rank of the LoRA factors; the largest, should they differ."""
        ranks = [info.shape[0] for name, info in self.infos.items() if name.endswith(LORA_A)]
        return max(ranks, default=None)

    def tensor(self, name: str) -> torch.Tensor:
        return self.file.tensor(self.names[name])


def write_adapter(path: Path, tensors: Mapping[str, torch.Tensor], meta: AdapterMeta) -> None:
    """Write an adapter and its sidecar `<stem>.json`; each appears whole or not at all.

    Raises:
        AppError: `disk_full` or `not_writable`.
    """
    import torch

    described = np.frombuffer(meta.model_dump_json().encode(), dtype=np.uint8).copy()
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content[META_KEY] = torch.from_numpy(described)
    with atomic_write(path) as file:
        torch.save(content, file)
    write_json(path.with_suffix(".json"), meta.model_dump(mode="json"))


def open_adapter(path: str | os.PathLike[str]) -> AdapterFile:
    """Open an adapter without loading it; what it is comes from its contents.

    Raises:
        InputError: `adapter_unreadable`, `adapter_not_adapter` (base models, other kinds of adapters),
            `model_unsafe`, `model_truncated`, `model_not_found`.
    """
    path = Path(path)
    try:
        file = open_checkpoint(path)
    except InputError as error:
        if error.code == "model_not_rwkv":
            raise InputError("adapter_not_adapter", path=str(path)) from error
        if error.code == "model_unreadable":
            reason = error.problem.args["reason"]
            raise InputError("adapter_unreadable", path=str(path), reason=reason) from error
        raise
    return describe_adapter(file)


def describe_adapter(file: CheckpointFile) -> AdapterFile:
    """What an open file is as an adapter.

    Raises:
        InputError: `adapter_not_adapter`, `adapter_unreadable`.
    """
    path = file.path
    meta = _read_meta(file)
    names = {_our_name(name): name for name in file.infos if name != META_KEY}
    has_lora = any(name.endswith(LORA_A) for name in names)
    if (meta is None and not has_lora) or any(_OTHER_KINDS.search(name) for name in names):
        raise InputError("adapter_not_adapter", path=str(path))
    _require_pairs(names, file, path)
    return AdapterFile(file, meta, "slim" if meta is None else "ours", names)


def read_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Load an adapter into memory, in the file's dtypes.

    Raises:
        InputError: as `open_adapter`.
    """
    opened = open_adapter(path)
    return Adapter({name: opened.tensor(name) for name in opened.names}, opened.meta, opened.kind, Path(path))


def check_fits(
    adapter: Adapter | AdapterFile, infos: Mapping[str, TensorInfo], path: str | os.PathLike[str]
) -> None:
    """Compare an adapter with a base model.

    Args:
        infos: the base's tensors. path: the base, named in the error.

    Raises:
        InputError: `adapter_mismatch`, naming the first three tensors that the base lacks or has otherwise.
    """
    if isinstance(adapter, Adapter):
        shapes = {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}
        adapter_path = adapter.path
    else:
        shapes = {name: info.shape for name, info in adapter.infos.items()}
        adapter_path = adapter.file.path
    wrong = [name for name, shape in shapes.items() if not _fits(name, shape, infos)]
    if wrong:
        listed = ", ".join(wrong[:3]) + (f", … ({len(wrong)})" if len(wrong) > 3 else "")
        raise InputError("adapter_mismatch", path=str(adapter_path), tensors=listed, base=str(path))


def _fits(name: str, shape: tuple[int, ...], infos: Mapping[str, TensorInfo]) -> bool:
    base = infos.get(f"{lora_module(name)}.weight" if is_lora(name) else name)
    if base is None:
        return False
    if not is_lora(name):
        # Trained vectors may come without the base's leading ones.
        return _squeezed(shape) == _squeezed(base.shape)
    if len(base.shape) != 2 or len(shape) != 2:
        return False
    return shape[1] == base.shape[1] if name.endswith(LORA_A) else shape[0] == base.shape[0]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def is_lora(name: str) -> bool:
    """Whether a tensor is a LoRA factor (and not one trained in full)."""
    return name.endswith((LORA_A, LORA_B))


def lora_module(name: str) -> str:
    """`blocks.0.att.key` of `blocks.0.att.key.lora_A`."""
    return name.rpartition(".")[0]


def lora_modules(names: Iterable[str]) -> list[str]:
    """The modules that have LoRA factors, in the order of their names."""
    return [lora_module(name) for name in names if name.endswith(LORA_A)]


def _our_name(name: str) -> str:
    # HF peft writes `….lora_A.weight`.
    return name.removesuffix(".weight") if name.endswith((".lora_A.weight", ".lora_B.weight")) else name


def _read_meta(file: CheckpointFile) -> AdapterMeta | None:
    if META_KEY not in file.infos:
        return None
    try:
        return AdapterMeta.model_validate_json(file.read(META_KEY).tobytes())
    except ValidationError as error:
        raise InputError("adapter_unreadable", path=str(file.path), reason=META_KEY) from error


def _require_pairs(names: Mapping[str, str], file: CheckpointFile, path: Path) -> None:
    """Each A needs its B of the same rank, and nothing else may be called lora."""
    for name in names:
        if is_lora(name):
            module = lora_module(name)
            pair = [names.get(module + LORA_A), names.get(module + LORA_B)]
            shapes: list[tuple[int, ...]] = [file.infos[key].shape if key else () for key in pair]
            if any(len(shape) != 2 or 0 in shape for shape in shapes) or shapes[0][0] != shapes[1][1]:
                raise InputError("adapter_unreadable", path=str(path), reason=module)
        elif "lora" in name or not _FULL_TENSOR.match(name):
            raise InputError("adapter_unreadable", path=str(path), reason=name)

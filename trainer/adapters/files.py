"""Adapter files: writing ours, reading ours and those of other RWKV trainers.

A file is a flat .pth of tensors: the leaves of the adapted projections (`trainer.adapters.leaves`), and under
their own names the tensors that were trained in full. What it is travels as JSON in the uint8 tensor
`lora_meta` (mergers that drop every key with "lora" drop it too) and in a sidecar beside the file. A file of
tuned states holds a state for each layer and nothing else, as RWKV-Runner wants it: it has the sidecar only.
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

from trainer.adapters.leaves import LEAVES, STATE, by_module, kind_of, sizes, split
from trainer.contract.adapter_meta import META_KEY, AdapterMeta
from trainer.contract.errors import InputError
from trainer.contract.files import atomic_write, write_json
from trainer.models.checkpoint import CheckpointFile, TensorInfo, open_checkpoint
from trainer.models.layouts import state_shapes
from trainer.models.spec import detect

if TYPE_CHECKING:
    import torch

AdapterKind = Literal["ours", "slim"]
# Marks of adapters with another update rule than any of ours.
_OTHER_KINDS = re.compile(r"\.(bone|bone_block|miss_block|init_lora_[AB])(\.|$)")
_FULL_TENSOR = re.compile(r"(emb\.weight|head\.weight|ln_out\.(weight|bias)|blocks\.\d+\.\S+)$")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in memory.

    Attributes:
        tensors: leaves and fully trained tensors, without the metadata tensor.
        meta: None for files of other tools.
        kind: "ours" (with metadata) or "slim" (RWKV-Runner, RWKV-LM-LoRA, RWKV-PEFT).
        path: where it was read from.
    """

    tensors: Mapping[str, torch.Tensor]
    meta: AdapterMeta | None
    kind: AdapterKind
    path: Path

    @property
    def names(self) -> Iterable[str]:
        return self.tensors

    @property
    def method(self) -> str | None:
        """How it was trained, as far as the file tells; None for a file of tensors trained in full."""
        return method_of(self)


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
    def method(self) -> str | None:
        """How it was trained, as far as the file tells; None for a file of tensors trained in full."""
        return method_of(self)

    @property
    def rank(self) -> int | None:
        """The rank of the adapted projections; the largest, should they differ."""
        ranks = [info.shape[LEAVES[leaf].index("r")] for leaf, info in self._leaves() if "r" in LEAVES[leaf]]
        return max(ranks, default=None)

    @property
    def is_scaled(self) -> bool:
        """Whether its updates are scaled by alpha / r."""
        return any(leaf == "lora_A" for leaf, _ in self._leaves())

    def _leaves(self) -> list[tuple[str, TensorInfo]]:
        found = ((split(name), info) for name, info in self.infos.items())
        return [(parts[1], info) for parts, info in found if parts is not None]

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
    if meta.method != "state":
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


def method_of(adapter: Adapter | AdapterFile) -> str | None:
    """The metadata's method; else the kind of what the file holds."""
    if adapter.meta is not None:
        return adapter.meta.method
    kinds = {kind_of(leaves) for leaves in by_module(adapter.names).values()}
    if not kinds and all(name.endswith(STATE) for name in adapter.names):
        return "state"
    return next(iter(kinds), None)


def describe_adapter(file: CheckpointFile) -> AdapterFile:
    """What an open file is as an adapter.

    Raises:
        InputError: `adapter_not_adapter`, `adapter_unreadable`.
    """
    path = file.path
    meta = _read_meta(file)
    names = {_our_name(name): name for name in file.infos if name != META_KEY}
    is_state = all(name.endswith(STATE) for name in names)
    known = meta is not None or is_state or by_module(names)
    if not known or any(_OTHER_KINDS.search(name) for name in names):
        raise InputError("adapter_not_adapter", path=str(path))
    _require_whole(names, file, path)
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
    parts = split(name)
    base = infos.get(name if parts is None else f"{parts[0]}.weight")
    if name.endswith(STATE):
        return shape == state_shapes(detect(infos)).get(name)
    if base is None:
        return False
    if parts is None:
        # Trained vectors may come without the base's leading ones.
        return _squeezed(shape) == _squeezed(base.shape)
    if len(base.shape) != 2:
        return False
    wanted = {"out": base.shape[0], "in": base.shape[1]}
    return all(size == wanted.get(dim, size) for dim, size in zip(LEAVES[parts[1]], shape, strict=True))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _our_name(name: str) -> str:
    # HF peft writes `….lora_A.weight`.
    return name.removesuffix(".weight") if name.endswith((".lora_A.weight", ".lora_B.weight")) else name


def _read_meta(file: CheckpointFile) -> AdapterMeta | None:
    if META_KEY in file.infos:
        text = file.read(META_KEY).tobytes()
    elif file.infos and all(name.endswith(STATE) for name in file.infos):
        return _read_sidecar(file.path)
    else:
        return None
    try:
        return AdapterMeta.model_validate_json(text)
    except ValidationError as error:
        raise InputError("adapter_unreadable", path=str(file.path), reason=META_KEY) from error


def _read_sidecar(path: Path) -> AdapterMeta | None:
    """The metadata of a file of states; a file that is none of ours may have any JSON beside it."""
    try:
        meta = AdapterMeta.model_validate_json(path.with_suffix(".json").read_bytes())
    except (OSError, ValidationError):
        return None
    return meta if meta.method == "state" else None


def _require_whole(names: Mapping[str, str], file: CheckpointFile, path: Path) -> None:
    """Each module needs all leaves of its kind, of one rank, and nothing else may be called lora."""
    for module, leaves in by_module(names).items():
        shapes = {leaf: file.infos[names[f"{module}.{leaf}"]].shape for leaf in leaves}
        if kind_of(leaves) is None or sizes(shapes) is None:
            raise InputError("adapter_unreadable", path=str(path), reason=module)
    for name in names:
        if split(name) is None and ("lora" in name or not _FULL_TENSOR.match(name)):
            raise InputError("adapter_unreadable", path=str(path), reason=name)

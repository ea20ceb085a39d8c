"""Adapter files: writing ours, reading ours and those of other tools.

A file is a flat .pth of tensors: the leaves of the adapted projections (`trainer.adapters.leaves`), and under
their own names the tensors that were trained in full. What it is travels as JSON in the uint8 tensor
`lora_meta` (mergers that drop every key with "lora" drop it too) and in a sidecar beside the file. A file of
tuned states holds a state for each layer and nothing else, as RWKV-Runner wants it: it has the sidecar only.
What other tools write is told by its contents and read as if it were ours (`trainer.adapters.foreign`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from trainer.adapters.fit import check_fits, model_of
from trainer.adapters.foreign.names import init_names, is_of_miss, is_of_peft, our_name
from trainer.adapters.foreign.peft_folder import (
    CONFIG_NAME,
    WEIGHTS_NAMES,
    read_config,
    weights_in,
    with_one_alpha,
)
from trainer.adapters.foreign.pissa_init import joined, starting_point
from trainer.adapters.lazy import LazyTensor, stored
from trainer.adapters.leaves import LEAVES, STATE, by_module, kind_of, sizes, split
from trainer.contract.adapter_meta import META_KEY, AdapterMeta
from trainer.contract.errors import InputError, Problem
from trainer.contract.files import atomic_write, write_json
from trainer.models.checkpoint import CheckpointFile, TensorInfo, open_checkpoint

if TYPE_CHECKING:
    import torch

__all__ = [
    "Adapter", "AdapterFile", "check_fits", "describe_adapter", "open_adapter", "read_adapter", "recognised",
    "write_adapter",
]  # fmt: skip

Writer = Literal["ours", "slim", "miss", "pissa", "peft", "state"]
_FULL_TENSOR = re.compile(r"(emb\.weight|head\.weight|ln_out\.(weight|bias)|blocks\.\d+\.\S+)$")


class _Described:
    """What can be said of an adapter, in memory or not."""

    meta: AdapterMeta | None
    alpha: float | None
    path: Path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        raise NotImplementedError

    @property
    def method(self) -> str | None:
        """How it was trained, as far as the file tells; None for a file of tensors trained in full."""
        if self.meta is not None:
            return self.meta.method
        kinds = {kind_of(leaves) for leaves in by_module(self.shapes).values()}
        if not kinds and all(name.endswith(STATE) for name in self.shapes):
            return "state"
        return next(iter(kinds), None)

    @property
    def rank(self) -> int | None:
        """The rank of the adapted projections; the largest, should they differ."""
        leaves = ((split(name), shape) for name, shape in self.shapes.items())
        ranks = [
            shape[LEAVES[parts[1]].index("r")] for parts, shape in leaves if parts and "r" in LEAVES[parts[1]]
        ]
        return max(ranks, default=None)

    @property
    def is_scaled(self) -> bool:
        """Whether its updates are scaled by alpha / r."""
        return any(parts is not None and parts[1] == "lora_A" for parts in map(split, self.shapes))


@dataclass(frozen=True, slots=True)
class Adapter(_Described):
    """An adapter in memory.

    Attributes:
        tensors: leaves and fully trained tensors, without the metadata tensor, in the file's dtypes.
        meta: None for files of other tools.
        alpha: that the file tells; None where it does not, or nothing is scaled.
        path: where it was read from.
    """

    tensors: Mapping[str, torch.Tensor]
    meta: AdapterMeta | None
    alpha: float | None
    path: Path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


@dataclass(frozen=True, slots=True)
class AdapterFile(_Described):
    """An adapter that is open but not loaded.

    Attributes:
        tensors: under the names that we give them, without the metadata tensor.
        meta: None for files of other tools.
        alpha: that the file tells; None where it does not, or nothing is scaled.
        writer: "ours" (with metadata); "slim" (a LoRA of RWKV-Runner, RWKV-LM-LoRA or RWKV-PEFT), "miss" and
            "pissa" (RWKV-PEFT), "peft" (Hugging Face's), "state" (tuned states of any tool).
        path: of the file of tensors. nbytes: its size.
    """

    tensors: Mapping[str, LazyTensor]
    meta: AdapterMeta | None
    alpha: float | None
    writer: Writer
    path: Path
    nbytes: int

    @property
    def infos(self) -> dict[str, TensorInfo]:
        return {name: tensor.info for name, tensor in self.tensors.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.info.shape for name, tensor in self.tensors.items()}

    def load(self) -> Adapter:
        """Read all of it."""
        tensors = {name: tensor.read() for name, tensor in self.tensors.items()}
        return Adapter(tensors, self.meta, self.alpha, self.path)


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


def read_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Load an adapter into memory.

    Raises:
        InputError: as `open_adapter`.
    """
    return open_adapter(path).load()


def open_adapter(
    path: str | os.PathLike[str], pissa_init: str | os.PathLike[str] | None = None
) -> AdapterFile:
    """Open an adapter without loading it; what it is comes from its contents.

    Args:
        path: a file, or a folder of Hugging Face's peft.
        pissa_init: what a PiSSA of RWKV-PEFT started from, if it does not lie beside the adapter under its
            usual name.

    Raises:
        InputError: `adapter_unreadable`; `adapter_not_adapter` (base models among others); `adapter_kind`,
            adapters of other kinds than ours; `model_unsafe`, `model_truncated`, `model_not_found`.
    """
    path = Path(path)
    if path.is_dir():
        path = weights_in(path)
    elif path.name == CONFIG_NAME:
        path = weights_in(path.parent)
    try:
        file = open_checkpoint(path)
    except InputError as error:
        if error.code == "model_not_rwkv":
            raise InputError("adapter_not_adapter", path=str(path)) from error
        if error.code == "model_unreadable":
            reason = error.problem.args["reason"]
            raise InputError("adapter_unreadable", path=str(path), reason=reason) from error
        raise
    return describe_adapter(file, pissa_init)


def describe_adapter(file: CheckpointFile, pissa_init: str | os.PathLike[str] | None = None) -> AdapterFile:
    """What an open file is as an adapter.

    Raises:
        InputError: as `open_adapter`.
    """
    meta = _read_meta(file)
    tensors = {
        our_name(name, info): stored(file, name) for name, info in file.infos.items() if name != META_KEY
    }
    is_state = all(name.endswith(STATE) for name in tensors)
    of_peft = file.path.name in WEIGHTS_NAMES or any(map(is_of_peft, file.infos))
    config = read_config(file.path.parent) if of_peft else None
    if init_names(file.infos):
        raise InputError("adapter_kind", path=str(file.path), kind="PiSSA init")
    if meta is None and not is_state and not by_module(tensors):
        raise InputError("adapter_not_adapter", path=str(file.path))
    _require_whole(tensors, file.path)
    if meta is not None:
        return AdapterFile(tensors, meta, meta.alpha, "ours", file.path, file.nbytes)
    alpha: float | None = None
    writer: Writer = "state" if is_state else "slim"
    if of_peft:
        writer = "peft"
        if config is not None:
            alpha, tensors = config.lora_alpha, with_one_alpha(tensors, config)
    elif any(map(is_of_miss, file.infos)):
        writer = "miss"
    elif writer == "slim" and (start := starting_point(file.path.parent, tensors, pissa_init)) is not None:
        writer, tensors = "pissa", joined(tensors, start)
        alpha = 2.0 * next(start[name].info.shape[0] for name in start if name.endswith("lora_A"))
    return AdapterFile(tensors, None, alpha, writer, file.path, file.nbytes)


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


def _require_whole(tensors: Mapping[str, LazyTensor], path: Path) -> None:
    """Each module needs all leaves of its kind, of one rank, and nothing else may be called lora."""
    for module, leaves in by_module(tensors).items():
        shapes = {leaf: tensors[f"{module}.{leaf}"].info.shape for leaf in leaves}
        if kind_of(leaves) is None or sizes(shapes) is None:
            raise InputError("adapter_unreadable", path=str(path), reason=module)
    for name in tensors:
        if split(name) is None and ("lora" in name or not _FULL_TENSOR.match(name)):
            raise InputError("adapter_unreadable", path=str(path), reason=name)


def recognised(adapter: AdapterFile) -> Problem:
    """A sentence that says what an adapter was taken for, and by what."""
    facts = {
        "model": model_of(adapter),
        "method": adapter.method or "full",
        "r": "—" if adapter.rank is None else adapter.rank,
        "alpha": "—" if adapter.alpha is None else f"{adapter.alpha:g}",
    }
    return Problem(f"adapter_is_{adapter.writer}", facts)

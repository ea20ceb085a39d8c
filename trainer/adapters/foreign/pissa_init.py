"""PiSSA of RWKV-PEFT: what it trained lies in one file, what it started from in another.

It trains W - B0 A0 + B A with B0 A0 the principal part of W. Both files together are the plain LoRA
[B, -B0] [A; A0] on the original base, of rank 2r and alpha 2r, as our own PiSSA writes it. A trained file by
itself looks like a LoRA. What tells them apart is that A is still like A0, while LoRA's A starts at random.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.adapters.foreign.names import init_names
from trainer.adapters.lazy import LazyTensor, made, stored
from trainer.adapters.leaves import split
from trainer.contract.errors import InputError
from trainer.models.checkpoint import CheckpointFile, open_checkpoint

if TYPE_CHECKING:
    import torch

INIT_FILES = ("init_pissa.pth", "init_lora.pth")
# Cosine of A and A0: about 0 for a LoRA, 1 for a PiSSA that has not moved.
_LIKE = 0.5


def starting_point(
    folder: Path, tensors: Mapping[str, LazyTensor], given: str | os.PathLike[str] | None
) -> dict[str, LazyTensor] | None:
    """The tensors that a LoRA-like adapter started from; None if it is a LoRA.

    Args:
        folder: where RWKV-PEFT would have put the init file.
        given: the init file, from a person who knows; it is then not asked whether the adapter is like it.

    Raises:
        InputError: `adapter_unreadable`, the given file does not belong to the adapter.
    """
    if given is not None:
        file = open_checkpoint(given)
        found = _matching(file, tensors)
        if found is None:
            raise InputError("adapter_unreadable", path=str(given), reason="init_lora_A")
        return found
    for name in INIT_FILES:
        with contextlib.suppress(InputError):  # absent, or something else of that name
            found = _matching(open_checkpoint(folder / name), tensors)
            if found is not None and _is_like(tensors, found):
                return found
    return None


def joined(tensors: Mapping[str, LazyTensor], start: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The LoRA of rank 2r that both are together; tensors trained in full stay."""
    out = dict(tensors)
    for name, first in start.items():
        is_A = name.endswith("lora_A")
        n, m = tensors[name].info.shape
        shape = (2 * n, m) if is_A else (n, 2 * m)
        out[name] = made(shape, partial(_side_by_side, tensors[name], first, is_A))
    return out


def _side_by_side(trained: LazyTensor, start: LazyTensor, is_A: bool) -> torch.Tensor:
    import torch

    pair = trained.read().float(), start.read().float()
    return torch.cat(pair) if is_A else torch.cat((pair[0], -pair[1]), 1)


def _matching(file: CheckpointFile, tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor] | None:
    """The file's tensors, if it has those of every adapted module, of the same shapes."""
    names = init_names(file.infos)
    leaves = [name for name in tensors if split(name) is not None]
    if not leaves or any(
        name not in names or file.infos[names[name]].shape != tensors[name].info.shape for name in leaves
    ):
        return None
    return {name: stored(file, names[name]) for name in leaves}


def _is_like(tensors: Mapping[str, LazyTensor], start: Mapping[str, LazyTensor]) -> bool:
    import torch

    name = next(name for name in start if name.endswith("lora_A"))
    A, A0 = tensors[name].read().float().flatten(), start[name].read().float().flatten()
    return torch.nn.functional.cosine_similarity(A, A0, dim=0).item() > _LIKE

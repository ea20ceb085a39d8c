"""Tensors of an adapter that are read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.models.checkpoint import CheckpointFile, TensorInfo, as_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor of known shape.

    Attributes:
        read: the whole of it, with memory of its own.
        blocks: rows of its first dimension, as many at a time as hold the given number of elements.
    """

    info: TensorInfo
    read: Callable[[], Tensor]
    blocks: Callable[[int], Iterator[Tensor]]


def stored(file: CheckpointFile, name: str) -> LazyTensor:
    """A tensor as the file has it."""
    info = file.infos[name]

    def blocks(max_elements: int) -> Iterator[Tensor]:
        for block in file.blocks(name, max_elements):
            yield as_tensor(block, info.dtype)

    return LazyTensor(info, lambda: file.tensor(name), blocks)


def made(shape: tuple[int, ...], make: Callable[[], Tensor]) -> LazyTensor:
    """An fp32 tensor that is computed of others."""
    info = TensorInfo("fp32", shape, 4 * math.prod(shape))
    return LazyTensor(info, make, lambda max_elements: iter([make()]))


def scaled(tensor: LazyTensor, factor: float) -> LazyTensor:
    """factor · tensor in fp32; the tensor itself where the factor is 1."""
    if factor == 1.0:
        return tensor
    return made(tensor.info.shape, lambda: tensor.read().float() * factor)

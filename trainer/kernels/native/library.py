"""The C files' functions on tensors."""

from __future__ import annotations

import ctypes
import logging
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.kernels.native.build import NativeUnavailableError, load_library

HEAD_SIZE = 64
"""Channels of a head in the C files, as in every public model; smaller heads are filled up with zeros."""

_LOG = logging.getLogger(__name__)


class _Arguments(ctypes.Structure):
    """`Arguments` of wkv.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("B", "T", "H", "threads")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "r", "decay", "k", "v", "a", "b", "u", "initial", "resets", "y", "final", "sa", "states",
                "dy", "dfinal", "dr", "dlog_w", "dk", "dv", "da", "db", "du", "dinitial",
            )
        ),
    ]  # fmt: skip


@lru_cache
def loaded(operation: str) -> ctypes.CDLL | NativeUnavailableError:
    """The compiled file, or why there is none; either is found out and logged once."""
    try:
        library = load_library(Path(__file__).with_name(f"{operation}.c"))
    except NativeUnavailableError as error:
        _LOG.warning("%s runs in PyTorch, several times slower than in C: %s", operation, error)
        return error
    for direction in ("forward", "backward"):
        function = library[f"{operation}_{direction}"]
        function.argtypes, function.restype = [ctypes.POINTER(_Arguments)], None
        setattr(library, direction, function)
    return library


def require(operation: str, tensor: Tensor) -> None:
    """Raise NativeUnavailableError if the operation cannot run on this machine where the tensor is."""
    if tensor.device.type != "cpu":
        raise NativeUnavailableError(f"the tensors are on {tensor.device}")
    if isinstance(library := loaded(operation), NativeUnavailableError):
        raise library


def suits(tensor: Tensor) -> bool:
    """Whether the C files' fp32 loses nothing of the tensor."""
    return torch.promote_types(tensor.dtype, torch.float32) == torch.float32


def fill_up(x: Tensor, dims: int) -> Tensor:
    """x in fp32, contiguous, with zeros to a multiple of HEAD_SIZE in the last `dims` dimensions."""
    missing = [part for size in x.shape[: -dims - 1 : -1] for part in (0, -size % HEAD_SIZE)]
    return (F.pad(x.float(), missing) if any(missing) else x.float()).contiguous()


def call(operation: str, direction: str, sizes: tuple[int, int, int], **tensors: Tensor | None) -> None:
    """Run a pass of an operation.

    Args:
        direction: "forward" or "backward". sizes: B, T, H.
        tensors: fp32 (`resets` bool), contiguous, on the CPU; named as in wkv.h.
    """
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None}
    arguments = _Arguments(*sizes, torch.get_num_threads(), **pointers)
    getattr(loaded(operation), direction)(ctypes.byref(arguments))

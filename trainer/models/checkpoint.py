"""A model or adapter file, opened without loading it: .pth (zip or old) and .safetensors.

Opening reads the description of the tensors only, executes nothing of the file and needs no torch.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.contract.errors import InputError
from trainer.models.fingerprint import sha256_of
from trainer.models.safetensors_file import looks_like_safetensors, read_safetensors
from trainer.models.stored import DTYPES, RecordReader, StoredTensor, row_major
from trainer.models.torch_files import LEGACY_MAGIC, ZIP_MAGIC, read_legacy, read_zip, unpickle

if TYPE_CHECKING:
    import torch

# What trainers put before every key: DeepSpeed, Lightning modules, DataParallel, torch.compile, HF peft.
_PREFIXES = ("_forward_module.", "model.", "module.", "_orig_mod.", "base_model.")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's element type ("bf16", "fp16", "fp32", …), shape and size."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def numel(self) -> int:
        n = 1
        for size in self.shape:
            n *= size
        return n


class CheckpointFile:
    """The tensors of one file by name, in file order, with trainers' prefixes stripped.

    Attributes:
        path: the file.
        infos: name -> type and shape of every tensor.
        other_keys: keys of what is in the file and is no tensor.
        nbytes: size of the file.
    """

    def __init__(self, path: Path, tensors: dict[str, StoredTensor], other_keys: list[str]) -> None:
        self.path = path
        self.nbytes = path.stat().st_size
        self.other_keys = tuple(other_keys)
        self._tensors = _strip_prefixes(tensors, path)
        self._reader = RecordReader(path)
        self.infos = {
            name: TensorInfo(stored.dtype.name, stored.shape, stored.nbytes)
            for name, stored in self._tensors.items()
        }

    def read(self, name: str) -> np.ndarray:
        """A tensor's elements, contiguous and owned by the caller; bf16 as uint16, fp8 as uint8 bits.

        Raises:
            KeyError: no such tensor.
            InputError: `model_truncated` or `model_unreadable`, the file has changed since it was opened.
        """
        return self._read(self._tensors[name])

    def blocks(self, name: str, max_elements: int) -> Iterator[np.ndarray]:
        """A tensor row by row of its first dimension, as many rows at a time as hold `max_elements`."""
        stored = self._tensors[name]
        n_rows = stored.shape[0]
        step = max(1, max_elements // max(1, stored.numel // max(1, n_rows)))
        if stored.stride == row_major(stored.shape):
            for first in range(0, n_rows, step):
                yield self._read(stored.rows(first, min(first + step, n_rows)))
            return
        # Rows of a transposed tensor lie spread over all of it: one read, not one for each block.
        whole = self._read(stored)
        for first in range(0, n_rows, step):
            yield whole[first : first + step]

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor on the CPU in the file's dtype, with memory of its own."""
        return as_tensor(self.read(name), self.infos[name].dtype)

    def sha256(self, on_progress: Callable[[int, int], None] | None = None) -> str:
        """SHA-256 of the file, remembered for as long as its size and time stay.

        Args:
            on_progress: called with bytes done and in all, when the file has to be read.
        """
        return sha256_of(self.path, on_progress)

    def _read(self, stored: StoredTensor) -> np.ndarray:
        try:
            return self._reader.read(stored)
        except (EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError("model_truncated", path=str(self.path)) from error
        except OSError as error:
            raise _unreadable(self.path, error) from error


def as_tensor(array: np.ndarray, dtype: str) -> torch.Tensor:
    """Elements that were read as `dtype` ("bf16": uint16 bits), as a torch tensor over the same memory."""
    import torch

    if dtype == "bf16":
        array = array.view(np.int16)
    return torch.from_numpy(array).view(getattr(torch, DTYPES[dtype].torch))


def open_checkpoint(path: str | os.PathLike[str]) -> CheckpointFile:
    """Open a model, adapter or state file, whatever its name says.

    Raises:
        InputError: `model_not_found`, `model_unreadable`, `model_truncated`, `model_unsafe` (a pickle that
            names anything but tensors), `model_legacy` (a tar file), `model_not_rwkv` (no checkpoint at all).
    """
    path = Path(path)
    try:
        tensors, other_keys = _read_header(path)
        return CheckpointFile(path, tensors, other_keys)
    except FileNotFoundError as error:
        raise InputError("model_not_found", path=str(path)) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_header(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise InputError("model_unreadable", path=str(path), reason="0 bytes")
    if head.startswith(ZIP_MAGIC):
        return read_zip(path)
    if head.startswith(LEGACY_MAGIC):
        return read_legacy(path)
    if looks_like_safetensors(head):
        return read_safetensors(path), []
    if ZIP_MAGIC.startswith(head) or LEGACY_MAGIC.startswith(head):
        raise InputError("model_truncated", path=str(path))
    if head[257:262] == b"ustar":
        raise InputError("model_legacy", path=str(path))
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _refuse_pickle(path)
    raise InputError("model_not_rwkv", path=str(path))


def _refuse_pickle(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """A bare pickle is no checkpoint: name what it would have called, if it would have."""
    with open(path, "rb") as file:
        unpickle(file, path)
    raise InputError("model_not_rwkv", path=str(path))


def _strip_prefixes(tensors: dict[str, StoredTensor], path: Path) -> dict[str, StoredTensor]:
    out: dict[str, StoredTensor] = {}
    for key, stored in tensors.items():
        name = key
        while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
            name = name[len(prefix) :]
        if name in out:
            raise InputError("model_unreadable", path=str(path), reason=f"{name} twice")
        out[name] = stored
    return out


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError("model_unreadable", path=str(path), reason=error.strerror or str(error))

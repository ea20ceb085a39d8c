"""Writes a .pth that plain `torch.load(weights_only=True, mmap=True)` reads, one tensor after the other.

Nothing but the current block is in memory, and the zip's checksums are right (zipfile sets them when a record
ends). Records start at multiples of 64 bytes, as torch's own do.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from trainer.models.pickle_header import STORAGES
from trainer.models.stored import DTYPES, row_major

ALIGNMENT = 64
_ROOT = "archive"
_PADDING_ID = b"FB"
_STORAGE_OF = {name: storage for storage, name in STORAGES.items()}


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor to be written."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        n = 1
        for size in self.shape:
            n *= size
        return n

    @property
    def nbytes(self) -> int:
        return self.numel * DTYPES[self.dtype].itemsize


class PthWriter:
    """A checkpoint being written; tensors come in the order of the plan.

    Args:
        file: an empty, seekable binary stream. It is left open.
        plan: name -> type and shape.
    """

    def __init__(self, file: IO[bytes], plan: Mapping[str, TensorPlan]) -> None:
        self._plan = dict(plan)
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._file = file
        self._pending = list(self._plan)
        self._record("data.pkl", [state_dict_pickle(self._plan)])
        self._record("byteorder", [b"little"])

    def write(self, name: str, blocks: Iterable[bytes | memoryview]) -> int:
        """Write the next tensor's bytes; their CRC-32.

        Raises:
            ValueError: another tensor is next, or the bytes are not as many as planned.
            OSError: the disk is full or gone.
        """
        if not self._pending or self._pending[0] != name:
            raise ValueError(f"{name} is not the next tensor")
        index = len(self._plan) - len(self._pending)
        member = self._record(f"data/{index}", blocks, self._plan[name].nbytes)
        if member.file_size != self._plan[name].nbytes:
            raise ValueError(f"{name} has {member.file_size} bytes, not {self._plan[name].nbytes}")
        del self._pending[0]
        return member.CRC

    def finish(self) -> None:
        """Write the end of the file.

        Raises:
            ValueError: tensors are missing.
        """
        if self._pending:
            raise ValueError(f"{len(self._pending)} tensors were not written")
        self._record("version", [b"3\n"])
        self._archive.close()

    def __enter__(self) -> PthWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            # Closing would write a table of contents, perhaps on a full disk: the file is thrown away.
            self._archive.fp = None

    def _record(self, name: str, blocks: Iterable[bytes | memoryview], nbytes: int = 0) -> zipfile.ZipInfo:
        member = zipfile.ZipInfo(f"{_ROOT}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
        member.file_size = nbytes  # decides whether the header needs 64-bit sizes
        zip64_bytes = 20 if nbytes * 1.05 > zipfile.ZIP64_LIMIT else 0
        unpadded = self._file.tell() + 30 + len(member.filename) + 4 + zip64_bytes
        padding = -unpadded % ALIGNMENT
        member.extra = _PADDING_ID + struct.pack("<H", padding) + b"Z" * padding
        with self._archive.open(member, "w") as target:
            for block in blocks:
                target.write(block)
        return member


def state_dict_pickle(plan: Mapping[str, TensorPlan]) -> bytes:
    """The pickle (protocol 2) of a dictionary of contiguous CPU tensors with a storage each, as torch's."""
    parts = [b"\x80\x02}("]
    for index, (name, tensor) in enumerate(plan.items()):
        storage = f"ctorch\n{_STORAGE_OF[tensor.dtype]}\n".encode()
        parts += [_text(name), b"ctorch._utils\n_rebuild_tensor_v2\n(("]
        parts += [_text("storage"), storage, _text(str(index)), _text("cpu"), _number(tensor.numel), b"tQ"]
        parts += [_number(0), _numbers(tensor.shape), _numbers(row_major(tensor.shape))]
        parts += [b"\x89ccollections\nOrderedDict\n)RtR"]
    return b"".join([*parts, b"u."])


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _number(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _numbers(values: Iterable[Any]) -> bytes:
    return b"(" + b"".join(_number(value) for value in values) + b"t"

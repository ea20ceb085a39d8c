"""Where a tensor's elements lie in a checkpoint file, and how they are read from there."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class DType:
    """An element type: our name, numpy's (bf16 and fp8 as bits), torch's, and whether it is a float."""

    name: str
    numpy: np.dtype
    torch: str
    is_float: bool = True

    @property
    def itemsize(self) -> int:
        return self.numpy.itemsize


DTYPES: dict[str, DType] = {
    dtype.name: dtype
    for dtype in (
        DType("fp32", np.dtype("<f4"), "float32"),
        DType("bf16", np.dtype("<u2"), "bfloat16"),
        DType("fp16", np.dtype("<f2"), "float16"),
        DType("fp64", np.dtype("<f8"), "float64"),
        DType("fp8_e4m3", np.dtype("u1"), "float8_e4m3fn"),
        DType("fp8_e5m2", np.dtype("u1"), "float8_e5m2"),
        DType("uint8", np.dtype("u1"), "uint8", is_float=False),
        DType("int8", np.dtype("i1"), "int8", is_float=False),
        DType("int16", np.dtype("<i2"), "int16", is_float=False),
        DType("int32", np.dtype("<i4"), "int32", is_float=False),
        DType("int64", np.dtype("<i8"), "int64", is_float=False),
        DType("bool", np.dtype("?"), "bool", is_float=False),
    )
}
BY_TORCH_NAME = {dtype.torch: dtype for dtype in DTYPES.values()}


@dataclass(frozen=True, slots=True)
class Record:
    """A run of bytes of the file. With `member` they are the contents of a compressed zip member."""

    offset: int
    nbytes: int
    member: str | None = None


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A strided view of a record; `start` and `stride` count elements, as torch's do."""

    record: Record
    dtype: DType
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int = 0

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """Elements from the first to the last one that the view touches, both counted."""
        if self.numel == 0:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    def fits(self) -> bool:
        """Whether every element lies inside the record."""
        return (self.start + self.extent) * self.dtype.itemsize <= self.record.nbytes

    def rows(self, first: int, last: int) -> StoredTensor:
        """Rows `first` to `last` (excluded) of the first dimension."""
        return StoredTensor(
            self.record,
            self.dtype,
            (last - first, *self.shape[1:]),
            self.stride,
            self.start + first * self.stride[0],
        )


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a contiguous tensor."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


class RecordReader:
    """Reads stored tensors of one file. Holds no open file; keeps the last decompressed record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._member: tuple[str, bytes] | None = None

    def read(self, tensor: StoredTensor) -> np.ndarray:
        """The tensor's elements, contiguous, writable and owned by the caller.

        Raises:
            EOFError: the file ends inside the tensor.
            OSError, zipfile.BadZipFile: the file can't be read.
        """
        itemsize = tensor.dtype.itemsize
        flat = np.empty(tensor.extent, tensor.dtype.numpy)
        target = flat.view(np.uint8).data if flat.size else memoryview(bytearray())
        self._fill(target, tensor.record, tensor.start * itemsize)
        if tensor.stride == row_major(tensor.shape) or tensor.numel <= 1:
            return flat.reshape(tensor.shape)
        strides = tuple(step * itemsize for step in tensor.stride)
        # A copy, so that rows of a transposed or expanded tensor don't alias one another.
        return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).copy(order="C")

    def _fill(self, target: memoryview, record: Record, offset: int) -> None:
        if record.member is not None:
            data = self._decompressed(record)
            target[:] = data[offset : offset + len(target)]
            return
        with open(self._path, "rb", buffering=0) as file:
            file.seek(record.offset + offset)
            done = 0
            while done < len(target):
                count = file.readinto(target[done:])
                if not count:
                    raise EOFError(f"{self._path} ends inside a tensor")
                done += count

    def _decompressed(self, record: Record) -> bytes:
        member = record.member or ""
        if self._member is None or self._member[0] != member:
            with zipfile.ZipFile(self._path) as archive:
                self._member = (member, archive.read(member))
        return self._member[1]

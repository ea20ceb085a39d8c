"""Writes a .safetensors file, one tensor after the other; the package of that name wants all at once.

The format: the header's length as uint64, the header as JSON padded with blanks to 8 bytes, then the tensors.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import IO

from trainer.models.pth_writer import TensorPlan
from trainer.models.safetensors_file import TYPES

_ALIGNMENT = 8
_TYPE_OF = {name: theirs for theirs, name in TYPES.items()}


class SafetensorsWriter:
    """A file being written; tensors come in the order of the plan, and keep it.

    Args:
        file: an empty binary stream. It is left open.
        plan: name -> type and shape.
        metadata: texts that travel in the header.
    """

    def __init__(
        self, file: IO[bytes], plan: Mapping[str, TensorPlan], metadata: Mapping[str, str] | None = None
    ) -> None:
        self._file = file
        self._pending = list(plan)
        self._plan = dict(plan)
        header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
        end = 0
        for name, tensor in plan.items():
            first, end = end, end + tensor.nbytes
            header[name] = {
                "dtype": _TYPE_OF[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [first, end],
            }
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        file.write(struct.pack("<Q", len(text)) + text)

    def write(self, name: str, blocks: Iterable[bytes | memoryview]) -> int:
        """Write the next tensor's bytes; their CRC-32.

        Raises:
            ValueError: another tensor is next, or the bytes are not as many as planned.
            OSError: the disk is full or gone.
        """
        if not self._pending or self._pending[0] != name:
            raise ValueError(f"{name} is not the next tensor")
        checksum = nbytes = 0
        for block in blocks:
            self._file.write(block)
            checksum = zlib.crc32(block, checksum)
            nbytes += memoryview(block).nbytes
        if nbytes != self._plan[name].nbytes:
            raise ValueError(f"{name} has {nbytes} bytes, not {self._plan[name].nbytes}")
        del self._pending[0]
        return checksum

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._pending:
            raise ValueError(f"{len(self._pending)} tensors were not written")

"""The header of a .safetensors file: a length, then JSON with each tensor's name, type, shape and span."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from trainer.contract.errors import InputError
from trainer.models.stored import DTYPES, Record, StoredTensor, row_major

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
TYPES = {
    "F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8_e4m3", "F8_E5M2": "fp8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def looks_like_safetensors(head: bytes) -> bool:
    """Whether a file that starts with `head` (at least 9 bytes) is one."""
    return len(head) >= 9 and head[8:9] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] <= _MAX_HEADER_BYTES


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """All tensors, in the header's order.

    Raises:
        InputError: `model_truncated`, `model_unreadable`.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if 8 + length > size:
            raise InputError("model_truncated", path=str(path))
        header = file.read(length)
    try:
        entries = json.loads(header)
        tensors = {
            name: _stored(entry, 8 + length) for name, entry in entries.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError("model_unreadable", path=str(path), reason=f"header: {error}"[:120]) from error
    if any(stored.record.offset + stored.record.nbytes > size for stored in tensors.values()):
        raise InputError("model_truncated", path=str(path))
    return tensors


def _stored(entry: dict[str, Any], data_start: int) -> StoredTensor:
    first, last = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(type(n) is int and n >= 0 for n in (first, last, *shape)):
        raise ValueError("a size that is not a natural number")
    stored = StoredTensor(
        Record(data_start + first, last - first), DTYPES[TYPES[entry["dtype"]]], shape, row_major(shape)
    )
    if stored.nbytes != last - first:
        raise ValueError("a span that is not as long as its tensor")
    return stored

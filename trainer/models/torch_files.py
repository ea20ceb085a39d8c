"""torch's two file formats: the zip of today, and the bare pickle from before torch 1.6."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from trainer.contract.errors import InputError
from trainer.models.pickle_header import BROKEN_PICKLE, ForbiddenGlobalError, HeaderUnpickler, TensorRef
from trainer.models.stored import Record, StoredTensor

ZIP_MAGIC = b"PK\x03\x04"
# The pickled magic number that torch wrote first before it had zip files.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MAX_PICKLE_BYTES = 64 * 1024 * 1024
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")


def read_zip(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors of a zip checkpoint and the keys of what else its dictionary holds.

    Raises:
        InputError: `model_truncated`, `model_unreadable`, `model_unsafe`, `model_not_rwkv`.
    """
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            members = {member.filename: member for member in archive.infolist()}
            pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise InputError("model_not_rwkv", path=str(path))
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
                raise InputError("model_unreadable", path=str(path), reason="big-endian")
            if members[pickles[0]].file_size > _MAX_PICKLE_BYTES:
                raise InputError("model_unreadable", path=str(path), reason="oversized data.pkl")
            content = unpickle(io.BytesIO(archive.read(pickles[0])), path)

            def record(key: str) -> Record:
                return _zip_record(file, members[f"{root}data/{key}"])

            return collect(content, record, path)
    except (zipfile.BadZipFile, EOFError, KeyError, struct.error) as error:
        # A zip's table of contents is at its end: what was cut off anywhere lacks it.
        raise InputError("model_truncated", path=str(path)) from error
    except NotImplementedError as error:
        raise InputError("model_unreadable", path=str(path), reason=str(error)) from error


def _zip_record(file: IO[bytes], member: zipfile.ZipInfo) -> Record:
    """Where a member's data starts: its local header may be longer than the central one says."""
    if member.flag_bits & 1:
        raise NotImplementedError("encrypted")
    if member.compress_type != zipfile.ZIP_STORED:
        return Record(0, member.file_size, member.filename)
    file.seek(member.header_offset)
    header = file.read(30)
    signature, name_bytes, extra_bytes = struct.unpack("<4s22xHH", header)
    if signature != ZIP_MAGIC:
        raise zipfile.BadZipFile("no local header")
    return Record(member.header_offset + 30 + name_bytes + extra_bytes, member.file_size)


def read_legacy(path: Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """As `read_zip`, for files from before torch 1.6: pickles, then each storage's length and bytes."""
    with open(path, "rb") as file:
        for _ in range(3):  # magic number, protocol version, sizes and byte order of the writing machine
            system = unpickle(file, path)
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise InputError("model_unreadable", path=str(path), reason="big-endian")
        content = unpickle(file, path)
        keys = unpickle(file, path)
        itemsizes = {ref.storage.key: ref.dtype.itemsize for ref in _tensor_refs(content)}
        size = path.stat().st_size
        records: dict[str, Record] = {}
        for key in keys if isinstance(keys, list) else []:
            length = file.read(8)
            if len(length) != 8:
                raise InputError("model_truncated", path=str(path))
            nbytes = struct.unpack("<q", length)[0] * itemsizes.get(str(key), 1)
            records[str(key)] = Record(file.tell(), nbytes)
            if nbytes < 0 or file.seek(nbytes, io.SEEK_CUR) > size:
                raise InputError("model_truncated", path=str(path))
    try:
        return collect(content, records.__getitem__, path)
    except KeyError as error:
        raise InputError("model_truncated", path=str(path)) from error


def _tensor_refs(content: Any) -> list[TensorRef]:
    if isinstance(content, TensorRef):
        return [content]
    if isinstance(content, dict):
        return [ref for value in content.values() for ref in _tensor_refs(value)]
    return []


def unpickle(file: IO[bytes], path: Path) -> Any:
    """One pickle of the file, as inert data.

    Raises:
        InputError: `model_unsafe` with the name that it wanted, `model_truncated`, `model_unreadable`.
    """
    try:
        return HeaderUnpickler(file).load()
    except ForbiddenGlobalError as error:
        raise InputError("model_unsafe", path=str(path), name=error.name) from error
    except EOFError as error:
        raise InputError("model_truncated", path=str(path)) from error
    except BROKEN_PICKLE as error:
        if isinstance(error, pickle.UnpicklingError) and "truncated" in str(error):
            raise InputError("model_truncated", path=str(path)) from error
        raise InputError("model_unreadable", path=str(path), reason=str(error)[:120]) from error


def collect(
    content: Any, record: Callable[[str], Record], path: Path
) -> tuple[dict[str, StoredTensor], list[str]]:
    """Turn an unpickled dictionary into tensors in file order, and the keys of everything else in it."""
    entries = _state_dict(content, path)
    tensors: dict[str, StoredTensor] = {}
    for key, ref in entries.items():
        if not isinstance(ref, TensorRef):
            continue
        stored = StoredTensor(record(ref.storage.key), ref.dtype, ref.shape, ref.stride, ref.start)
        if not stored.fits():
            raise InputError(
                "model_unreadable", path=str(path), reason=f"{key} reaches beyond its storage"[:120]
            )
        tensors[str(key)] = stored
    return tensors, [str(key) for key, value in entries.items() if not isinstance(value, TensorRef)]


def _state_dict(content: Any, path: Path) -> dict[Any, Any]:
    """The dictionary of tensors: the file's own, or the only one inside a training checkpoint."""
    for _ in range(4):
        if not isinstance(content, dict):
            break
        if any(isinstance(value, TensorRef) for value in content.values()):
            return content
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)]
        if len(inner) != 1:
            break
        content = inner[0]
    raise InputError("model_not_rwkv", path=str(path))

"""binidx: documents of token ids as `PREFIX.bin` (raw array) and `PREFIX.idx` (index), memory-mapped.

The format is the one that RWKV's trainers read (Megatron's memory-mapped index, all little endian):
`MMIDIDX\\0\\0`, uint64 version 1, uint8 type code, uint64 n, uint64 m, int32 sizes[n] (tokens),
int64 pointers[n] (bytes), int64 doc_idx[m]. Beside them go `PREFIX.mask`, a byte a token (1 = the assistant's
words), and `PREFIX.json`, where the tokens come from; files of other tools lack both.
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.contract.errors import InputError
from trainer.contract.files import disk_error, fsync_folder
from trainer.data.findings import Duplicates, Noticed

MAGIC = b"MMIDIDX\x00\x00"
CACHED_MAGIC = b"TNTIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
UINT16_IDS = 65536
# Code 6 and 7 are floats, which no token is.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"), 2: np.dtype("i1"), 3: np.dtype("<i2"), 4: np.dtype("<i4"), 5: np.dtype("<i8"),
    8: np.dtype("<u2"),
}  # fmt: skip
FORMAT_VERSION = 2
_BLOCK_ITEMS = 1 << 20
# Documents are short; they are written many at a time.
_WRITE_TOKENS = 1 << 17


class SkippedProblem(BaseModel):
    """A part of the data that was left out: the code and arguments of its sentence."""

    model_config = ConfigDict(frozen=True)

    code: str
    args: dict[str, Any]


class ConvertMeta(BaseModel):
    """`PREFIX.json`: what a binidx was made from.

    Attributes:
        tokens: all tokens, the end of each document included.
        assistant_tokens: those that count when the loss is taken on the assistant's words only.
        skipped: lines or files that were left out.
        problems: the first of them.
        shapes: documents of each shape that their records were recognised as.
        remarks: what is doubtful about documents, by kind.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    data_name: str
    data_sha256: str
    vocab_sha256: str
    tokenizer: str
    vocab_size: int
    documents: int
    tokens: int
    assistant_tokens: int
    max_token: int
    skipped: int
    problems: tuple[SkippedProblem, ...] = ()
    shapes: dict[str, int] = {}
    remarks: dict[str, Noticed] = {}
    duplicates: Duplicates = Duplicates()


def part(prefix: Path, suffix: str) -> Path:
    """`PREFIX.suffix`; a prefix may itself contain dots."""
    return prefix.with_name(f"{prefix.name}.{suffix}")


def binidx_prefix(path: Path) -> Path | None:
    """The prefix that a path means, or None if it is not a binidx; `.bin` and `.idx` files mean theirs."""
    if path.suffix in (".bin", ".idx") and path.is_file():
        return path.with_suffix("")
    if not path.exists() and part(path, "idx").is_file():
        return path
    return None


class BinidxWriter:
    """Writes a binidx document by document; nothing appears under its names before `finish`.

    A context manager: leaving it without `finish` removes what was written. Memory is 4 bytes a document.

    Args:
        prefix: path without extension.
        vocab_size: number of ids; up to 65536 the tokens are uint16, above int32.

    Raises:
        AppError: `not_writable` or `disk_full`, also from the methods.
    """

    def __init__(self, prefix: Path, vocab_size: int) -> None:
        self._prefix = Path(prefix)
        self.code = 8 if vocab_size <= UINT16_IDS else 4
        self._dtype = DTYPES[self.code]
        self._sizes = array("i")
        self._size = 0
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting_tokens = 0
        self._files: dict[str, IO[bytes]] = {}
        self.tokens = 0
        self._written_assistant_tokens = 0
        self._written_max_token = 0
        try:
            self._prefix.parent.mkdir(parents=True, exist_ok=True)
            for suffix in ("bin", "mask"):
                self._files[suffix] = _temporary(part(self._prefix, suffix))
        except OSError as error:
            self.close()
            raise disk_error(error, self._prefix) from error

    def __enter__(self) -> BinidxWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def documents(self) -> int:
        return len(self._sizes)

    @property
    def assistant_tokens(self) -> int:
        return self._written_assistant_tokens + sum(int(np.count_nonzero(mask)) for _, mask in self._waiting)

    @property
    def max_token(self) -> int:
        return max([self._written_max_token, *(int(ids.max(initial=0)) for ids, _ in self._waiting)])

    def add(self, ids: np.ndarray, mask: np.ndarray) -> None:
        """Append tokens to the open document; the arrays are kept for a while.

        Args:
            ids: integers [n], each below the vocabulary size.
            mask: uint8 [n].
        """
        self._waiting.append((ids, mask))
        self._size += ids.size
        self._waiting_tokens += ids.size
        if self._waiting_tokens >= _WRITE_TOKENS:
            self._write_waiting()

    def _write_waiting(self) -> None:
        if not self._waiting_tokens:
            return
        ids, mask = map(np.concatenate, zip(*self._waiting, strict=True))
        self._waiting, self._waiting_tokens = [], 0
        self._written_assistant_tokens += int(np.count_nonzero(mask))
        self._written_max_token = max(self._written_max_token, int(ids.max()))
        try:
            self._files["bin"].write(ids.astype(self._dtype, copy=False).data)
            self._files["mask"].write(mask.data)
        except OSError as error:
            raise disk_error(error, self._prefix) from error

    def end_document(self) -> None:
        self._sizes.append(self._size)
        self.tokens += self._size
        self._size = 0

    def finish(self, meta: ConvertMeta) -> None:
        """Write the index and give the files their names; the index comes last, and without it nothing is."""
        try:
            for suffix in ("json", "idx"):
                self._files[suffix] = _temporary(part(self._prefix, suffix))
            self._files["json"].write(meta.model_dump_json(indent=2).encode() + b"\n")
            self._write_waiting()
            self._write_index(self._files["idx"])
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
                file.close()
            # An earlier index would describe the new tokens wrongly while the names change one by one.
            part(self._prefix, "idx").unlink(missing_ok=True)
            for suffix, file in self._files.items():
                Path(file.name).replace(part(self._prefix, suffix))
            fsync_folder(self._prefix.parent)
        except OSError as error:
            raise disk_error(error, self._prefix) from error
        self._files.clear()

    def _write_index(self, file: IO[bytes]) -> None:
        n = self.documents
        sizes = np.frombuffer(self._sizes, dtype=np.intc) if n else np.zeros(0, np.intc)
        file.write(HEADER.pack(MAGIC, 1, self.code, n, n + 1))
        for block in _blocks(n):
            file.write(sizes[block].astype("<i4").tobytes())
        pointer = 0
        for block in _blocks(n):
            ends = pointer + np.cumsum(sizes[block], dtype="<i8") * self._dtype.itemsize
            file.write(np.concatenate(([pointer], ends[:-1])).astype("<i8").tobytes())
            pointer = int(ends[-1])
        for block in _blocks(n + 1):
            file.write(np.arange(block.start, min(block.stop, n + 1), dtype="<i8").tobytes())

    def close(self) -> None:
        """Remove what has not been finished."""
        for file in self._files.values():
            # On a full disk closing fails once more at flushing what is thrown away anyway.
            with contextlib.suppress(OSError):
                file.close()
            Path(file.name).unlink(missing_ok=True)
        self._files.clear()


def _temporary(path: Path) -> IO[bytes]:
    # Closed and renamed by the writer, which outlives this function.
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115
        prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent, delete=False, buffering=1 << 20
    )
    umask = os.umask(0)
    os.umask(umask)
    Path(file.name).chmod(0o666 & ~umask)
    return file


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _BLOCK_ITEMS):
        yield slice(start, start + _BLOCK_ITEMS)


class BinidxReader:
    """A binidx, memory-mapped; `reader[i]` is document i.

    Attributes:
        sizes: tokens of each document, int32 [n].
        pointers: first token of each document in the `.bin`, int64 [n].
        tokens: sum of `sizes`.
        meta: where the tokens come from; None for files of other tools.

    Args:
        prefix: path without extension.

    Raises:
        InputError: `data_not_found`, `data_unreadable`, `data_empty`, or `binidx_invalid` with what is wrong.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = Path(prefix)
        self._idx, self._bin = part(self.prefix, "idx"), part(self.prefix, "bin")
        code, n = self._read_header()
        self.dtype = DTYPES[code]
        self.sizes = self._index_array("<i4", HEADER.size, n)
        offsets = self._index_array("<i8", HEADER.size + 4 * n, n)
        self.documents = n
        self._check_pointers(offsets)
        self.pointers = offsets // self.dtype.itemsize
        self.tokens = int(self.sizes.sum(dtype=np.int64))
        if self.tokens == 0:
            raise InputError("data_empty", path=str(self._bin))
        self._data = np.memmap(
            self._bin, dtype=self.dtype, mode="r", shape=(self._bin_bytes() // self.dtype.itemsize,)
        )
        self.meta = self._read_meta()
        self._mask = self._open_mask()

    def __len__(self) -> int:
        return self.documents

    def __getitem__(self, i: int) -> np.ndarray:
        """Token ids of document i, a view in the file's own integer type."""
        return self._slice(self._data, i)

    def mask(self, i: int) -> np.ndarray | None:
        """uint8, a byte a token of document i, 1 where it counts; None where the files do not say."""
        return None if self._mask is None else self._slice(self._mask, i)

    @property
    def all_masks(self) -> np.ndarray | None:
        """The masks of the whole `.bin`, uint8, indexed as `pointers` says."""
        return self._mask

    def token_range(self) -> tuple[int, int]:
        """Lowest and highest id of the `.bin`; read through where no metadata says it."""
        if self.meta is not None:
            return 0, self.meta.max_token
        lowest, highest = 0, 0
        for block in _blocks(self._data.size):
            lowest = min(lowest, int(self._data[block].min()))
            highest = max(highest, int(self._data[block].max()))
        return lowest, highest

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuse tokens that a model of `vocab_size` embeddings does not have.

        Raises:
            InputError: `token_beyond_vocab`.
        """
        lowest, highest = self.token_range()
        if lowest < 0 or highest >= vocab_size:
            token = lowest if lowest < 0 else highest
            raise InputError("token_beyond_vocab", token=token, vocab_size=vocab_size, path=str(self._bin))

    def _slice(self, values: np.ndarray, i: int) -> np.ndarray:
        start = int(self.pointers[i])
        return values[start : start + int(self.sizes[i])]

    def _invalid(self, path: Path, reason: str) -> InputError:
        return InputError("binidx_invalid", path=str(path), reason=reason)

    def _read_header(self) -> tuple[int, int]:
        for path in (self._idx, self._bin):
            if not path.is_file():
                raise InputError("data_not_found", path=str(path))
        try:
            with open(self._idx, "rb") as file:
                raw = file.read(HEADER.size)
        except OSError as error:
            raise InputError(
                "data_unreadable", path=str(self._idx), reason=error.strerror or str(error)
            ) from error
        if raw.startswith(CACHED_MAGIC):
            raise self._invalid(self._idx, "the old TNTIDX format")
        if not raw.startswith(MAGIC):
            raise self._invalid(self._idx, "does not begin with MMIDIDX")
        if len(raw) < HEADER.size:
            raise self._invalid(self._idx, "cut off in its header")
        _, version, code, n, m = HEADER.unpack(raw)
        if version != 1:
            raise self._invalid(self._idx, f"version {version}")
        if code not in DTYPES:
            raise self._invalid(self._idx, f"type code {code}")
        needed, found = HEADER.size + 12 * n + 8 * m, self._idx.stat().st_size
        if found < needed:
            raise self._invalid(self._idx, f"cut off: {found} of {needed} bytes")
        if n == 0:
            raise InputError("data_empty", path=str(self._bin))
        return code, n

    def _index_array(self, dtype: str, offset: int, n: int) -> np.ndarray:
        return np.fromfile(self._idx, dtype=dtype, count=n, offset=offset)

    def _bin_bytes(self) -> int:
        return self._bin.stat().st_size

    def _check_pointers(self, offsets: np.ndarray) -> None:
        itemsize, size = self.dtype.itemsize, self._bin_bytes()
        if self.sizes.min() < 0 or offsets.min() < 0 or np.any(offsets % itemsize):
            raise self._invalid(self._idx, "sizes or pointers that cannot be")
        # Compared by subtraction: a damaged pointer near 2^63 would overflow in a sum.
        beyond = offsets > size - self.sizes.astype(np.int64) * itemsize
        if beyond.any():
            i = int(np.argmax(beyond))
            raise self._invalid(self._bin, f"document {i} lies beyond its {size} bytes")

    def _read_meta(self) -> ConvertMeta | None:
        path = part(self.prefix, "json")
        try:
            meta = ConvertMeta.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            # Another tool's JSON of the same name is no reason to refuse its binidx.
            return None
        except OSError as error:
            raise InputError(
                "data_unreadable", path=str(path), reason=error.strerror or str(error)
            ) from error
        if (meta.documents, meta.tokens) != (self.documents, self.tokens):
            raise self._invalid(path, f"describes {meta.tokens} tokens, not {self.tokens}")
        return meta

    def _open_mask(self) -> np.ndarray | None:
        path = part(self.prefix, "mask")
        if self.meta is None or not path.is_file():
            return None
        n = self._data.size
        if path.stat().st_size != n:
            raise self._invalid(path, f"{path.stat().st_size} bytes, not {n}")
        return np.memmap(path, dtype=np.uint8, mode="r", shape=(n,))

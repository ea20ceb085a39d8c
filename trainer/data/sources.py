"""What a data path is: a file or a folder of them; the format of each, sizes and hash.

The content decides about a file's format; where it leaves a choice, the extension does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.contract.errors import InputError, Problem

Kind = Literal["file", "folder"]
# "json" is an array, or objects that take several lines each.
Format = Literal["jsonl", "json", "table", "parquet", "text"]
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".tab"})
PARQUET_SUFFIXES = frozenset({".parquet"})
TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown"})
# A .json file in a folder is more often somebody's settings than data.
_FOLDER_SUFFIXES = tuple(JSONL_SUFFIXES - {".json"} | TABLE_SUFFIXES | PARQUET_SUFFIXES | TEXT_SUFFIXES)
_HEAD_BYTES = 1 << 16
_PARQUET_MAGIC = b"PAR1"
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the data.

    Attributes:
        name: path relative to the data folder with `/`, or the file's name; raw bytes of the file system.
        mtime_ns: modification time, nanoseconds since 1970.
    """

    path: Path
    name: bytes
    format: Format
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """All that a data path stands for; `problems` are the files that cannot be opened."""

    path: Path
    kind: Kind
    files: tuple[SourceFile, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def shown(path: Path) -> str:
    """A path as text that every stream can carry (a file name may hold bytes that are not UTF-8)."""
    return os.fsencode(path).decode("utf-8", errors="replace")


def unreadable(path: Path, error: OSError) -> InputError:
    return InputError("data_unreadable", path=shown(path), reason=error.strerror or str(error))


def open_source(data: Path) -> Source:
    """Look at a data path and list its files; only the beginning of each is read.

    Raises:
        InputError: `data_not_found`, `data_unreadable`, `data_empty`, `data_format`, `data_no_documents`.
    """
    data = Path(data)
    try:
        found = data.stat()
        if stat.S_ISDIR(found.st_mode):
            return _open_folder(data)
        if not stat.S_ISREG(found.st_mode):
            raise InputError("data_unreadable", path=shown(data), reason="not a regular file")
        head = _head(data)
        if not head.removeprefix(b"\xef\xbb\xbf").strip() and found.st_size <= len(head):
            raise InputError("data_empty", path=shown(data))
        return Source(data, "file", (_source_file(data, os.fsencode(data.name), head),))
    except FileNotFoundError as error:
        raise InputError("data_not_found", path=shown(data)) from error
    except OSError as error:
        raise unreadable(data, error) from error


def _head(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_HEAD_BYTES)


def _format(path: Path, head: bytes) -> Format:
    """What a file holds, by its beginning.

    Raises:
        InputError: `data_format`.
    """
    suffix = path.suffix.lower()
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    if suffix in PARQUET_SUFFIXES:
        raise InputError("data_format", path=shown(path), reason="does not begin as a Parquet file")
    if suffix in TABLE_SUFFIXES:
        return "table"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix in JSONL_SUFFIXES:
        begins = re.match(rb"\[\s*\{|\{\s*\n", text)
        return "json" if begins is not None else "jsonl"
    if _is_json_object(text.split(b"\n", 1)[0]):
        return "jsonl"
    if suffix in TEXT_SUFFIXES:
        return "text"
    raise InputError("data_format", path=shown(path), reason=f"“{suffix}”" if suffix else "no extension")


def _is_json_object(line: bytes) -> bool:
    """Whether a line is one; of a line longer than the head only the beginning can be looked at."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return len(line) > _HEAD_BYTES // 2 and re.match(rb'\{\s*"[^"\n]{1,64}"\s*:', line) is not None


def _source_file(path: Path, name: bytes, head: bytes) -> SourceFile:
    found = path.stat()
    return SourceFile(path, name, _format(path, head), found.st_size, found.st_mtime_ns)


def _open_folder(folder: Path) -> Source:
    files: list[SourceFile] = []
    problems: list[Problem] = []

    def refused(error: OSError) -> None:
        path = Path(error.filename or folder)
        if path == folder:
            raise unreadable(folder, error) from error
        problems.append(skipped_file(path, error.strerror or str(error)))

    for path in _data_files(folder, refused):
        try:
            if not path.is_file():
                # stat raises for a broken link, so that it is named; a socket or a pipe is no document.
                path.stat()
                continue
            name = os.fsencode(path.relative_to(folder)).replace(os.fsencode(os.sep), b"/")
            files.append(_source_file(path, name, _head(path)))
        except InputError as error:
            problems.append(skipped_file(path, str(error.problem.args["reason"])))
        except OSError as error:
            refused(error)
    if not files and not problems:
        raise InputError("data_no_documents", path=shown(folder))
    files.sort(key=lambda file: file.name)
    return Source(folder, "folder", tuple(files), tuple(problems))


def _data_files(folder: Path, refused: Callable[[OSError], None]) -> Iterator[Path]:
    """All paths of data below a folder that are not hidden; each folder once, however links lead to it.

    A readme is about the data, so it is no part of it.
    """
    visited: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refused):
        found = os.stat(parent)
        if (found.st_dev, found.st_ino) in visited:
            folders.clear()
            continue
        visited.add((found.st_dev, found.st_ino))
        # Sorted, so that of two ways to one folder the same is taken everywhere.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.lower().endswith(_FOLDER_SUFFIXES) and not name.lower().startswith((".", "readme.")):
                yield Path(parent, name)


def skipped_file(path: Path, reason: str) -> Problem:
    return Problem("data_file_skipped", {"path": shown(path), "reason": reason})


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def source_sha256(source: Source, hash_file: Callable[[SourceFile], str] | None = None) -> str:
    """Hash of everything that a source holds: the file's own, or for a folder that of all names and hashes.

    A file that cannot be read counts as such: once it can be, the hash is another.

    Args:
        hash_file: gives a file's hash, for callers that remember hashes; `file_sha256` by default.

    Raises:
        InputError: `data_unreadable`, the source is one file and cannot be read.
    """
    digest = hashlib.sha256()
    for file in source.files:
        try:
            of_file = hash_file(file) if hash_file is not None else file_sha256(file.path)
        except OSError as error:
            if source.kind != "folder":
                raise unreadable(file.path, error) from error
            of_file = "unreadable"
        if source.kind != "folder":
            return of_file
        digest.update(file.name + b"\0" + of_file.encode() + b"\n")
    return digest.hexdigest()

"""What a data path is: a .jsonl file, a .txt file or a folder of .txt files; its files, sizes and hash."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.contract.errors import InputError, Problem

Kind = Literal["jsonl", "text", "folder"]
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
TEXT_SUFFIXES = frozenset({".txt", ".text", ".md"})
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
    """Look at a data path and list its files; nothing is read but what tells a JSON array from JSON lines.

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
        with open(data, "rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise InputError("data_not_found", path=shown(data)) from error
    except OSError as error:
        raise unreadable(data, error) from error
    suffix = data.suffix.lower()
    if suffix not in JSONL_SUFFIXES | TEXT_SUFFIXES:
        raise InputError("data_format", path=shown(data), reason=f"“{suffix}”" if suffix else "no extension")
    if not head.removeprefix(b"\xef\xbb\xbf").strip() and found.st_size <= len(head):
        raise InputError("data_empty", path=shown(data))
    kind: Kind = "jsonl" if suffix in JSONL_SUFFIXES else "text"
    if kind == "jsonl" and head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[":
        reason = "a JSON array; write one object on each line (.jsonl)"
        raise InputError("data_format", path=shown(data), reason=reason)
    return Source(data, kind, (_source_file(data, os.fsencode(data.name)),))


def _source_file(path: Path, name: bytes) -> SourceFile:
    found = path.stat()
    return SourceFile(path, name, found.st_size, found.st_mtime_ns)


def _open_folder(folder: Path) -> Source:
    files: list[SourceFile] = []
    problems: list[Problem] = []

    def refused(error: OSError) -> None:
        path = Path(error.filename or folder)
        if path == folder:
            raise unreadable(folder, error) from error
        problems.append(skipped_file(path, error.strerror or str(error)))

    for path in _text_files(folder, refused):
        try:
            if not path.is_file():
                # stat raises for a broken link, so that it is named; a socket or a pipe is no document.
                path.stat()
                continue
            name = os.fsencode(path.relative_to(folder)).replace(os.fsencode(os.sep), b"/")
            files.append(_source_file(path, name))
        except OSError as error:
            refused(error)
    if not files and not problems:
        raise InputError("data_no_documents", path=shown(folder))
    files.sort(key=lambda file: file.name)
    return Source(folder, "folder", tuple(files), tuple(problems))


def _text_files(folder: Path, refused: Callable[[OSError], None]) -> Iterator[Path]:
    """All `.txt` paths below a folder that are not hidden; each folder once, however links lead to it."""
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
            if not name.startswith(".") and name.lower().endswith(".txt"):
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

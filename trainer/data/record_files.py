"""Files of records, read one record at a time: JSON lines, JSON arrays, CSV and TSV, Parquet.

Each reader yields `(line, value)`: the number at which the record begins, counted from 1 (in Parquet the
row), and what it holds, or a `BadRecordError` that says why it holds nothing.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from trainer.contract.errors import AppError, InputError
from trainer.data.documents import BadRecordError
from trainer.data.encodings import UnknownEncodingError, detect_encoding
from trainer.data.records import find_shape
from trainer.data.sources import shown

MAX_RECORD_BYTES = 256 << 20
MAX_FIELD_CHARS = 16 << 20
NOT_UTF8 = "not UTF-8"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BLOCK_BYTES = 1 << 20
_ROWS = 1024
# A string ends with its line at the latest: JSON allows no newline in it, so a missing quote ends there.
_JSON_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\[^\n])*("?)|[{}\[\]\n]')

Records = Iterator[tuple[int, Any]]
OnBytes = Callable[[int], object]
FieldsOf = Callable[[list[str]], list[str]]


def parse_json(raw: bytes) -> Any:
    """A JSON value.

    Raises:
        BadRecordError: it is none.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        # orjson refuses lone surrogates and NaN, which files in use contain; json takes them.
        pass
    try:
        return json.loads(raw.rstrip().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadRecordError(NOT_UTF8) from error
    except json.JSONDecodeError as error:
        raise BadRecordError(f"not JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"not JSON: {error}") from error


def _parsed(raw: bytes | None) -> Any:
    try:
        if raw is None:
            raise BadRecordError(f"longer than {MAX_RECORD_BYTES >> 20} MiB")
        return parse_json(raw)
    except BadRecordError as error:
        return error


def _without_mark(head: bytes, path: Path) -> bytes:
    if head.startswith(_UTF16_BOMS):
        raise InputError("data_encoding", path=shown(path))
    return head.removeprefix(b"\xef\xbb\xbf")


def json_lines(path: Path, on_bytes: OnBytes) -> Records:
    """One value on each line; blank lines are passed over."""
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            on_bytes(len(line))
            if number == 1:
                line = _without_mark(line, path)
            if len(line) > MAX_RECORD_BYTES:
                while not line.endswith(b"\n") and (line := file.readline(_BLOCK_BYTES)):
                    on_bytes(len(line))
                yield number, _parsed(None)
            elif not line.isspace():
                yield number, _parsed(line)


class _Objects:
    """Finds the objects of a JSON array, or of objects in a row, without holding more than one of them.

    Once an object has had no end, another is taken to begin where a line begins with a brace in the column
    of the first object's: one that is broken then costs itself and not the rest.
    """

    def __init__(self, path: Path, on_bytes: OnBytes) -> None:
        self._path, self._on_bytes = path, on_bytes
        self._buffer, self._offset, self._at = b"", 0, 0
        self._line, self._newline, self._begins_line = 1, -1, True
        # The open object: its place in the buffer and its line; depth 0 is outside of any.
        self._depth, self._start, self._start_line = 0, 0, 0
        self._column: int | None = None
        self._careful = self._lost = False

    def __iter__(self) -> Records:
        with open(self._path, "rb") as file:
            self._buffer = _without_mark(file.read(4), self._path)
            self._offset = file.tell() - len(self._buffer)
            while True:
                # As much again as is held, so that joining a long object costs no more than its length.
                block = file.read(max(_BLOCK_BYTES, len(self._buffer)))
                self._on_bytes(len(block))
                self._buffer += block
                yield from self._scan(at_end=not block)
                too_long = self._depth and len(self._buffer) - self._start > MAX_RECORD_BYTES
                if self._depth and (too_long or not block):
                    yield self._start_line, _parsed(None) if too_long else BadRecordError("not JSON: no end")
                    self._begin_again(file)
                elif not block:
                    return
                else:
                    self._forget()

    def _begin_again(self, file: IO[bytes]) -> None:
        """Look for the next object from behind the brace that opened the one without an end."""
        file.seek(self._offset + self._start + 1)
        self._buffer, self._at, self._offset = b"", 0, file.tell()
        self._line, self._newline, self._begins_line = self._start_line, -1, False
        self._depth, self._careful, self._lost = 0, True, True

    def _forget(self) -> None:
        """Keep only what is not done with."""
        done = self._start if self._depth else self._at
        self._buffer, self._at, self._start = self._buffer[done:], self._at - done, 0
        self._offset += done

    def _scan(self, *, at_end: bool) -> Records:
        for found in _JSON_TOKEN.finditer(self._buffer, self._at):
            kind = found[0][:1]
            if kind == b'"' and not found[1] and not at_end and len(self._buffer) - found.end() < 2:
                self._at = found.start()  # the rest of the string is still to be read
                return
            self._at = found.end()
            if kind == b"\n":
                self._line, self._newline, self._begins_line = self._line + 1, self._abs(found), True
                continue
            if kind == b"{":
                yield from self._open(found)
            elif kind == b"}" and self._depth:
                self._depth -= 1
                if not self._depth:
                    yield self._start_line, _parsed(self._buffer[self._start : self._at])
            elif kind == b'"' and not self._depth and not self._lost:
                yield self._line, BadRecordError("not a JSON object")
            self._begins_line = False
        self._at = len(self._buffer)

    def _open(self, found: re.Match[bytes]) -> Records:
        column = self._abs(found) - self._newline if self._begins_line else None
        expected = column is not None and column == self._column
        if self._depth and self._careful and expected:
            yield self._start_line, BadRecordError("not JSON: no end")
            self._depth = 0
        if self._lost and not expected:
            return
        self._lost = False
        if not self._depth:
            self._start, self._start_line = found.start(), self._line
            self._column = column if self._column is None else self._column
        self._depth += 1

    def _abs(self, found: re.Match[bytes]) -> int:
        return self._offset + found.start()


def json_objects(path: Path, on_bytes: OnBytes) -> Records:
    """The objects of a JSON array, or written one after the other over several lines."""
    yield from _Objects(path, on_bytes)


def table_rows(path: Path, on_bytes: OnBytes, fields_of: FieldsOf) -> Records:
    """The rows of a CSV or TSV file as mappings; the first row names the columns.

    Args:
        fields_of: the fields that columns of these names give.

    Raises:
        InputError: `data_encoding`; `data_columns`, nothing in the names says what they hold.
    """
    try:
        encoding = detect_encoding(path)
    except UnknownEncodingError as error:
        raise InputError("data_encoding", path=shown(path)) from error
    csv.field_size_limit(MAX_FIELD_CHARS)
    with open(path, encoding=encoding, newline="") as file:
        delimiter = _delimiter(file, path.suffix)
        file.seek(0)
        rows = csv.reader(_lines(file, on_bytes), delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(rows, [])]
        names = _checked_columns(path, header, fields_of)
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, BadRecordError(f"not CSV: {error}")
                continue
            if len(row) > len(header):
                yield line, BadRecordError(f"{len(row)} columns, not {len(header)}")
            elif any(cell.strip() for cell in row):
                yield line, dict(zip(names, row, strict=False))


def _lines(file: IO[str], on_bytes: OnBytes) -> Iterator[str]:
    for line in file:
        # Characters stand for bytes; the reader of the files corrects the figure when the file ends.
        on_bytes(len(line))
        # csv takes no NUL before Python 3.11.
        yield line.replace("\0", "\ufffd")


def _delimiter(file: IO[str], suffix: str) -> str:
    head = file.readline(1 << 16)
    if suffix.lower() in (".tsv", ".tab") or "\t" in head:
        return "\t"
    counts = {mark: len(next(csv.reader(io.StringIO(head), delimiter=mark), [])) for mark in ",;|"}
    return max(counts, key=lambda mark: counts[mark])


def _checked_columns(path: Path, header: list[str], fields_of: FieldsOf) -> list[str]:
    """The columns' names; the only column of a table is its text, whatever its name."""
    if find_shape(fields_of(header)) is not None:
        return header
    if len(header) == 1 and find_shape(fields_of(["text"])) is not None:
        return ["text"]
    raise InputError("data_columns", path=shown(path), columns=", ".join(header))


def parquet_rows(path: Path, on_bytes: OnBytes, fields_of: FieldsOf) -> Records:
    """The rows of a Parquet file as mappings, in batches.

    Raises:
        InputError: `data_columns`, or `data_format` for a file that is damaged.
        AppError: `package_missing`, pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise AppError("package_missing", package="pyarrow") from error
    try:
        with parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            names = _checked_columns(path, file.schema_arrow.names, fields_of)
            n, number, share = file.metadata.num_rows, 0, path.stat().st_size
            for batch in file.iter_batches(batch_size=_ROWS):
                for value in batch.rename_columns(names).to_pylist():
                    number += 1
                    yield number, value
                on_bytes(share * batch.num_rows // max(n, 1))
    except arrow.ArrowException as error:
        reason = f"not a whole Parquet file: {str(error).splitlines()[0]}"
        raise InputError("data_format", path=shown(path), reason=reason) from error

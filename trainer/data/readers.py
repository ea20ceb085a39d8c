"""Documents of a source, one after the other, in memory that does not grow with the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from trainer.contract.errors import InputError, Problem
from trainer.data.encodings import UnknownEncodingError, decoded_blocks, detect_encoding
from trainer.data.sources import Source, SourceFile, shown, skipped_file, unreadable

MAX_LINE_BYTES = 256 * 1024 * 1024
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True, slots=True)
class Document:
    """A text in pieces, to be read before the next document is asked for."""

    pieces: Iterator[str]


class _BadLineError(Exception):
    """A line that is no document; `str()` is the reason."""


class DocumentReader:
    """Iterates over the documents of a source.

    Attributes:
        bytes_read: how much of the source has been read.
        skipped: lines and files that were left out.

    Args:
        on_problem: told of each of them.

    Raises (while iterating):
        InputError: `data_encoding`, `data_unreadable`, `data_no_documents`.
    """

    def __init__(self, source: Source, on_problem: Callable[[Problem], None]) -> None:
        self._source = source
        self._on_problem = on_problem
        self.bytes_read = 0
        self.skipped = 0

    def __iter__(self) -> Iterator[Document]:
        for problem in self._source.problems:
            self._skip(problem)
        documents = self._json_lines() if self._source.kind == "jsonl" else self._texts()
        found = False
        for document in documents:
            found = True
            yield document
        if not found:
            raise InputError("data_no_documents", path=shown(self._source.path))

    def _skip(self, problem: Problem) -> None:
        self.skipped += 1
        self._on_problem(problem)

    def _json_lines(self) -> Iterator[Document]:
        path = self._source.files[0].path
        good, not_utf8 = 0, 0
        try:
            with open(path, "rb") as file:
                for number, line in self._lines(file):
                    try:
                        text = _line_text(line)
                    except _BadLineError as error:
                        not_utf8 += str(error) == _NOT_UTF8
                        args = {"path": shown(path), "line": number, "reason": str(error)}
                        self._skip(Problem("data_line_skipped", args))
                        continue
                    good += 1
                    yield Document(iter((text,)))
        except OSError as error:
            raise unreadable(path, error) from error
        if not good and not_utf8:
            raise InputError("data_encoding", path=shown(path))

    def _lines(self, file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
        """Numbered lines that are not blank; None for one that is too long."""
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            self.bytes_read += len(line)
            if number == 1:
                if line.startswith(_UTF16_BOMS):
                    raise InputError("data_encoding", path=shown(self._source.path))
                line = line.removeprefix(b"\xef\xbb\xbf")
            if len(line) > MAX_LINE_BYTES:
                while not line.endswith(b"\n") and (line := file.readline(1 << 20)):
                    self.bytes_read += len(line)
                yield number, None
            elif line.strip():
                yield number, line

    def _texts(self) -> Iterator[Document]:
        alone = self._source.kind == "text"
        for file in self._source.files:
            before = self.bytes_read
            try:
                encoding = detect_encoding(file.path)
                pieces = _pieces(file.path, encoding)
                first = next(pieces, "")
            except UnknownEncodingError as error:
                if alone:
                    raise InputError("data_encoding", path=shown(file.path)) from error
                self._skip(skipped_file(file.path, str(error)))
            except OSError as error:
                if alone:
                    raise unreadable(file.path, error) from error
                self._skip(skipped_file(file.path, error.strerror or str(error)))
            else:
                if first.strip():
                    yield Document(self._counted(first, pieces, file))
                else:
                    self._skip(skipped_file(file.path, "empty"))
            self.bytes_read = before + file.size_bytes

    def _counted(self, first: str, rest: Iterator[str], file: SourceFile) -> Iterator[str]:
        yield first
        try:
            for piece in rest:
                # Characters stand for bytes here; the exact figure is set when the file ends.
                self.bytes_read += len(piece)
                yield piece
        except UnicodeError as error:
            reason = "changed while it was read"
            raise InputError("data_unreadable", path=shown(file.path), reason=reason) from error
        except OSError as error:
            raise unreadable(file.path, error) from error


def _line_text(line: bytes | None) -> str:
    if line is None:
        raise _BadLineError(f"longer than {MAX_LINE_BYTES >> 20} MiB")
    value = _parse(line)
    if not isinstance(value, dict):
        raise _BadLineError("not a JSON object")
    if "text" not in value:
        raise _BadLineError("no “text”")
    text = value["text"]
    if not isinstance(text, str):
        raise _BadLineError("“text” is not a string")
    if not text.strip():
        raise _BadLineError("“text” is empty")
    return text


def _parse(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        # orjson refuses lone surrogates and NaN, which files in use contain; json takes them.
        pass
    try:
        return json.loads(line.rstrip().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _BadLineError(_NOT_UTF8) from error
    except json.JSONDecodeError as error:
        raise _BadLineError(f"not JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        raise _BadLineError(f"not JSON: {error}") from error


def _pieces(path: Path, encoding: str) -> Iterator[str]:
    """A text cut before a blank line, or before a newline, or where a block ends.

    Tokenizers and the search for roles see what they would see in the whole text, since they look back no
    further than the newline.
    """
    rest = ""
    for block in decoded_blocks(path, encoding):
        if rest:
            text = rest + block
            cut = text.rstrip("\n").rfind("\n\n")
            while cut > 0 and text[cut - 1] == "\n":
                cut -= 1
            if cut <= 0:
                cut = text.rstrip("\n").rfind("\n")
            if cut > 0:
                yield text[:cut]
                rest = text[cut:]
            else:
                yield rest
                rest = block
        else:
            rest = block
    if rest:
        yield rest

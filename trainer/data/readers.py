"""Documents of a source, one after the other, in memory that does not grow with the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from trainer.contract.errors import InputError, Problem
from trainer.data.documents import BadRecordError, Document
from trainer.data.encodings import UnknownEncodingError, decoded_blocks, detect_encoding
from trainer.data.record_files import (
    NOT_UTF8,
    Records,
    json_lines,
    json_objects,
    parquet_rows,
    table_rows,
)
from trainer.data.records import RenderOptions, document_of, field_names
from trainer.data.sources import Source, SourceFile, shown, skipped_file, unreadable


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

    def __init__(
        self, source: Source, on_problem: Callable[[Problem], None], options: RenderOptions | None = None
    ) -> None:
        self._source = source
        self._on_problem = on_problem
        self._options = options or RenderOptions()
        self.bytes_read = 0
        self.skipped = 0

    def __iter__(self) -> Iterator[Document]:
        for problem in self._source.problems:
            self._skip(problem)
        found = False
        for document in self._documents():
            found = True
            yield document
        if not found:
            raise InputError("data_no_documents", path=shown(self._source.path))

    def _skip(self, problem: Problem) -> None:
        self.skipped += 1
        self._on_problem(problem)

    def _documents(self) -> Iterator[Document]:
        for file in self._source.files:
            before = self.bytes_read
            try:
                yield from self._text(file) if file.format == "text" else self._from_records(file)
            except InputError as error:
                if self._source.kind == "file":
                    raise
                self._skip(skipped_file(file.path, str(error.problem.args.get("reason", error))))
            except OSError as error:
                if self._source.kind == "file":
                    raise unreadable(file.path, error) from error
                self._skip(skipped_file(file.path, error.strerror or str(error)))
            self.bytes_read = before + file.size_bytes

    def _add_bytes(self, n: int) -> None:
        self.bytes_read += n

    def _records(self, file: SourceFile) -> Records:
        if file.format == "jsonl":
            return json_lines(file.path, self._add_bytes)
        if file.format == "json":
            return json_objects(file.path, self._add_bytes)
        fields_of = partial(field_names, columns=self._options.columns)
        if file.format == "table":
            return table_rows(file.path, self._add_bytes, fields_of)
        return parquet_rows(file.path, self._add_bytes, fields_of)

    def _from_records(self, file: SourceFile) -> Iterator[Document]:
        good, not_utf8 = 0, 0
        where = "" if self._source.kind == "file" else f"{shown(file.path)}: "
        for number, value in self._records(file):
            try:
                if isinstance(value, BadRecordError):
                    raise value
                document = document_of(value, self._options, f"{where}{number}")
            except BadRecordError as error:
                not_utf8 += str(error) == NOT_UTF8
                args = {"path": shown(file.path), "line": number, "reason": str(error)}
                self._skip(Problem("data_line_skipped", args))
                continue
            good += 1
            yield document
        if not good and not_utf8:
            raise InputError("data_encoding", path=shown(file.path))

    def _text(self, file: SourceFile) -> Iterator[Document]:
        try:
            pieces = _pieces(file.path, detect_encoding(file.path))
            first = next(pieces, "")
        except UnknownEncodingError as error:
            raise InputError("data_encoding", path=shown(file.path), reason=str(error)) from error
        if first.strip():
            yield Document(self._counted(first, pieces, file), place=shown(file.path))
        else:
            self._skip(skipped_file(file.path, "empty"))

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

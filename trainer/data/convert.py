"""Converting data to a binidx, in memory that does not grow with the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from trainer.contract.errors import InputError, Problem
from trainer.data.binidx import BinidxWriter, ConvertMeta, SkippedProblem
from trainer.data.documents import Document
from trainer.data.findings import Findings
from trainer.data.readers import DocumentReader
from trainer.data.records import RenderOptions
from trainer.data.roles import RoleMarker
from trainer.data.sources import Source, SourceFile, open_source, shown, source_sha256
from trainer.data.templates import SEPARATOR, Segment
from trainer.data.tokenizers import Tokenizer

# Every problem is counted; a file that is wrong on every line must not flood whoever listens.
MAX_REPORTED = 1000
MAX_RECORDED = 50
PROGRESS_INTERVAL_S = 0.2

OnProgress = Callable[[int, int], object]
OnProblem = Callable[[Problem], object]


class ConversionStoppedError(Exception):
    """`should_stop` said so; nothing was left behind."""


class _Problems:
    """Passes problems on, up to a number, and records the first ones."""

    def __init__(self, listener: OnProblem | None) -> None:
        self._listener = listener
        self._reported = 0
        self.recorded: list[SkippedProblem] = []

    def __call__(self, problem: Problem) -> None:
        if len(self.recorded) < MAX_RECORDED:
            self.recorded.append(SkippedProblem(code=problem.code, args=dict(problem.args)))
        if self._listener is not None and self._reported < MAX_REPORTED:
            self._reported += 1
            self._listener(problem)


class _Watch:
    """Reports progress now and then, and looks whether to stop."""

    def __init__(
        self, reader: DocumentReader, total_bytes: int, on_progress: OnProgress | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:  # fmt: skip
        self._reader = reader
        self._total_bytes = total_bytes
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._next_s = 0.0

    def tick(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise ConversionStoppedError
        if self._on_progress is not None and (now_s := time.monotonic()) >= self._next_s:
            self._next_s = now_s + PROGRESS_INTERVAL_S
            self._on_progress(min(self._reader.bytes_read, self._total_bytes), self._total_bytes)

    def done(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._total_bytes, self._total_bytes)


def convert(
    data: Path,
    prefix: Path,
    tokenizer: Tokenizer,
    *,
    on_progress: OnProgress | None = None,
    on_problem: OnProblem | None = None,
    should_stop: Callable[[], bool] | None = None,
    hash_file: Callable[[SourceFile], str] | None = None,
    options: RenderOptions | None = None,
) -> ConvertMeta:
    """Tokenize data to `PREFIX.bin/.idx/.mask/.json`.

    Each document is followed by the end-of-document token. Nothing appears under the prefix before all of it
    is written.

    Args:
        on_progress: told (bytes read, bytes in all), at most a few times a second.
        on_problem: told of every line or file that is left out, up to `MAX_REPORTED`.
        should_stop: asked between pieces of text.
        hash_file: gives a file's SHA-256, for callers that know it.
        options: how records become documents.

    Raises:
        InputError: the data as a whole cannot be used: see `open_source` and `DocumentReader`.
        AppError: `not_writable`, `disk_full`.
        ConversionStoppedError: `should_stop` returned True.
    """
    source = open_source(data)
    problems = _Problems(on_problem)
    reader = DocumentReader(source, problems, options)
    findings = Findings()
    watch = _Watch(reader, source.size_bytes, on_progress, should_stop)
    watch.tick()
    data_sha256 = source_sha256(source, hash_file)
    with ExitStack() as stack:
        writer: BinidxWriter | None = None
        for document in reader:
            if writer is None:
                # Not opened earlier, so that data without a document leaves nothing, not even for a moment.
                writer = stack.enter_context(BinidxWriter(prefix, tokenizer.vocab_size))
            _write_document(document, tokenizer, writer, findings, watch)
        assert writer is not None  # the reader raises where there is no document
        _check_unchanged(source)
        meta = ConvertMeta(
            data_name=shown(Path(source.path.resolve().name)),
            data_sha256=data_sha256,
            vocab_sha256=tokenizer.sha256,
            tokenizer=tokenizer.name,
            vocab_size=tokenizer.vocab_size,
            documents=writer.documents,
            tokens=writer.tokens,
            assistant_tokens=writer.assistant_tokens,
            max_token=writer.max_token,
            skipped=reader.skipped,
            problems=tuple(problems.recorded),
            shapes=dict(findings.shapes),
            remarks=findings.remarks(),
            duplicates=findings.duplicates(),
        )
        writer.finish(meta)
    watch.done()
    return meta


def _write_document(
    document: Document, tokenizer: Tokenizer, writer: BinidxWriter, findings: Findings, watch: _Watch
) -> None:
    findings.begin(document)
    content, marker = document.content, RoleMarker()
    if isinstance(content, tuple):
        parts = _encoded_segments(content, tokenizer, findings)
    else:
        parts = _encoded_text(content, tokenizer, marker, findings)
    for ids, mask in parts:
        findings.add(ids)
        writer.add(ids, mask)
        watch.tick()
    counts_at_end = content[-1].counts if isinstance(content, tuple) else marker.counts_at_end
    writer.add(np.array([tokenizer.end_of_document], np.int32), np.array([counts_at_end], np.uint8))
    writer.end_document()
    findings.end()


def _encoded_text(
    pieces: Iterator[str], tokenizer: Tokenizer, marker: RoleMarker, findings: Findings
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for encoded in tokenizer.encode_pieces(marker.watch(findings.watch(pieces))):
        whole = np.ones(encoded.ids.size, dtype=np.uint8)
        yield encoded.ids, marker.mask(encoded.starts()) if marker.has_roles else whole


def _encoded_segments(
    segments: tuple[Segment, ...], tokenizer: Tokenizer, findings: Findings
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids and masks of segments that are tokenized one by one; see `Segment` for the blank line."""
    answered = False
    for segment in segments:
        findings.look_at(segment.text)
        for encoded in tokenizer.encode_pieces([segment.text]):
            mask = np.full(encoded.ids.size, segment.counts, dtype=np.uint8)
            if answered and segment.text.startswith(SEPARATOR):
                mask[encoded.starts() < len(SEPARATOR)] = 1
            yield encoded.ids, mask
        answered = segment.counts


def _check_unchanged(source: Source) -> None:
    """Refuse data that was edited meanwhile: its hash would stand for tokens of another text."""
    for file in source.files:
        try:
            found = file.path.stat()
        except OSError:
            found = None
        if found is None or (found.st_size, found.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
            raise InputError("data_unreadable", path=shown(file.path), reason="changed while it was read")

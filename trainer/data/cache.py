"""Converted data kept by content: edited data is converted again, unedited data is not."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from filelock import FileLock

from trainer.contract.errors import InputError, Problem
from trainer.contract.files import disk_error, write_json
from trainer.data.binidx import FORMAT_VERSION, BinidxReader, binidx_prefix
from trainer.data.convert import OnProblem, OnProgress, convert
from trainer.data.records import RenderOptions
from trainer.data.sources import Source, SourceFile, file_sha256, open_source, source_sha256
from trainer.data.tokenizers import Tokenizer, load_tokenizer

# A file changed within this time of being hashed may change again without a new time stamp.
_SETTLED_NS = 2_000_000_000


class HashIndex:
    """Remembers file hashes of one source by path, size and time, so that they need not be read again.

    Args:
        path: the JSON file to remember in; one that is missing or damaged only costs the time of hashing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        self._seen: dict[str, list[object]] = {}
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raw = {}
        if isinstance(raw, dict):
            self._known = {name: entry for name, entry in raw.items() if isinstance(entry, list)}

    def sha256(self, file: SourceFile) -> str:
        """The file's hash, remembered or computed.

        Raises:
            OSError: the file cannot be read.
        """
        name, stamp = os.fsencode(file.path).hex(), [file.size_bytes, file.mtime_ns]
        entry = self._known.get(name)
        if entry is not None and entry[:2] == stamp and isinstance(entry[-1], str):
            digest = entry[-1]
        else:
            digest = file_sha256(file.path)
        if entry == [*stamp, digest] or time.time_ns() - file.mtime_ns > _SETTLED_NS:
            self._seen[name] = [*stamp, digest]
        return digest

    def save(self) -> None:
        if self._seen != self._known:
            write_json(self._path, self._seen)


def _index_of(source: Source, cache_root: Path) -> HashIndex:
    name = hashlib.sha256(os.fsencode(source.path.resolve())).hexdigest()[:32]
    return HashIndex(cache_root / "hashes" / f"{name}.json")


def data_key(data_sha256: str, vocab_sha256: str, options: RenderOptions) -> str:
    """Name of the conversion of some data by some vocabulary and options, in the present format."""
    text = f"{FORMAT_VERSION}\n{data_sha256}\n{vocab_sha256}\n{options.fingerprint()}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def ensure_converted(
    data: Path,
    vocab: Path | None,
    vocab_size: int | None,
    cache_root: Path,
    on_progress: OnProgress | None = None,
    on_problem: OnProblem | None = None,
    options: RenderOptions | None = None,
) -> Path:
    """The prefix of the converted data, converting it if that has not been done; a binidx is its own.

    Processes that want the same data at once convert it once.

    Args:
        data: what `convert` takes, or a binidx prefix.
        vocab: vocabulary file; None chooses by `vocab_size`.
        vocab_size: rows of the model's embedding; None skips the check of token ids.
        on_problem: told of what was left out, also where the data was converted earlier (the first ones).
        options: how records become documents.

    Raises:
        InputError: see `convert`, `load_tokenizer`, `BinidxReader`; `token_beyond_vocab`.
        AppError: `not_writable`, `disk_full`.
    """
    prefix = binidx_prefix(data)
    if prefix is None:
        tokenizer = load_tokenizer(vocab, vocab_size)
        prefix = _converted(data, tokenizer, cache_root, on_progress, on_problem, options or RenderOptions())
    if vocab_size is not None:
        BinidxReader(prefix).check_vocabulary(vocab_size)
    return prefix


def _converted(
    data: Path, tokenizer: Tokenizer, cache_root: Path, on_progress: OnProgress | None,
    on_problem: OnProblem | None, options: RenderOptions,
) -> Path:  # fmt: skip
    source = open_source(data)
    index = _index_of(source, cache_root)
    key = data_key(source_sha256(source, index.sha256), tokenizer.sha256, options)
    folder = cache_root / key
    prefix = folder / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index.save()
    except OSError as error:
        raise disk_error(error, cache_root) from error
    with FileLock(cache_root / f"{key}.lock"):
        found = _finished(prefix)
        if found is None:
            # Left by a process that was killed: who holds the lock is the only one writing here.
            for leftover in folder.glob(".*.tmp"):
                leftover.unlink()
            convert(
                data,
                prefix,
                tokenizer,
                on_progress=on_progress,
                on_problem=on_problem,
                hash_file=index.sha256,
                options=options,
            )
        elif on_problem is not None and found.meta is not None:
            for problem in found.meta.problems:
                on_problem(Problem(problem.code, problem.args))
    return prefix


def _finished(prefix: Path) -> BinidxReader | None:
    """The conversion, if it is there and whole."""
    try:
        reader = BinidxReader(prefix)
    except InputError:
        return None
    return reader if reader.meta is not None and reader.all_masks is not None else None

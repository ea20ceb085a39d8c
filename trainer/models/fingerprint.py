"""SHA-256 of large files, computed once for as long as their size and time stay."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from trainer.contract.errors import AppError
from trainer.contract.files import write_json
from trainer.contract.folders import cache_folder

_BLOCK_BYTES = 4 * 1024 * 1024


def sha256_of(path: Path, on_progress: Callable[[int, int], None] | None = None) -> str:
    """The file's SHA-256 in hexadecimal.

    Args:
        on_progress: called with bytes done and in all after each block; not called if it is remembered.

    Raises:
        OSError: the file can't be read.
    """
    status = path.stat()
    stamp = {"path": str(path.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    note = cache_folder() / "sha256" / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.json"
    if (known := _recall(note, stamp)) is not None:
        return known
    digest = hashlib.sha256()
    done = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            if on_progress is not None:
                on_progress(done, status.st_size)
    # A cache that can't be written costs time the next time, nothing else.
    with contextlib.suppress(AppError, ValueError):
        write_json(note, {**stamp, "sha256": digest.hexdigest()})
    return digest.hexdigest()


def _recall(note: Path, stamp: dict[str, object]) -> str | None:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if isinstance(known, dict) and {key: known.get(key) for key in stamp} == stamp:
        return str(known.get("sha256"))
    return None

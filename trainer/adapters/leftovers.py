"""The file that a merge is making, under a name that no list shows, and what killed merges left of theirs.

Beside the file lies a lock that its merge holds, and that ends with its process. A file whose lock nobody
holds is a left-over.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_NAME = re.compile(r"(\.merging-[0-9a-f]{12})\.(pth|safetensors|gguf|lock)")
# Of file systems without locks; there, nothing is cleaned up.
_NO_LOCKS = (OSError, NotImplementedError)


@contextmanager
def unfinished(output: Path) -> Iterator[Path]:
    """A name beside the output for the file that is being made; it is gone at the end, however that comes."""
    # The package `rwkv` adds .pth to what it loads, so the ending stays the output's.
    stem = f".merging-{secrets.token_hex(6)}"
    part = output.with_name(stem + output.suffix.lower())
    lock = FileLock(output.with_name(f"{stem}.lock"))
    with contextlib.suppress(*_NO_LOCKS):
        lock.acquire()
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
        _let_go(lock)


def remove_leftovers(folder: Path) -> None:
    """Remove the files of merges in a folder whose processes are gone."""
    stems = {match[1] for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))}
    for stem in stems:
        lock = FileLock(folder / f"{stem}.lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, *_NO_LOCKS):
            continue
        for path in folder.glob(f"{stem}.*"):
            if path != Path(lock.lock_file):
                path.unlink(missing_ok=True)
        _let_go(lock)


def _let_go(lock: FileLock) -> None:
    # An open file cannot be removed on Windows, so first the one and then the other.
    lock.release()
    with contextlib.suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)

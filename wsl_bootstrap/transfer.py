"""One attempt to fetch a file from one address: gone on with where it broke off, hashed as it comes.

Range requests, If-Range and Content-Range as in RFC 9110, sections 13.1.5 and 14.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.files import write_whole
from wsl_bootstrap.step import StepError

_TELL_EVERY_S = 0.2
_BLOCK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

# Bytes that are there, bytes in all if known, whether they are read from the disk again ("checking").
OnBytes = Callable[[int, int | None, bool], None]


class WrongFileError(Exception):
    """An address serves something else than what is wanted; asking it again is no use."""


@dataclass(frozen=True)
class Wanted:
    """What is known of a file beforehand."""

    sha256: str | None = None
    size_bytes: int | None = None


class Part:
    """What has come of a file: its bytes under `<name>.part`, and beside them where they came from.

    Attributes:
        size_bytes, digest: of what is there.
        one_source: whether all of it came from one address, which is then to blame for all of it.
    """

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")
        self._source = self._validator = ""
        self._told_s = 0.0
        self.size_bytes, self.digest, self.one_source = 0, hashlib.sha256(), True

    def load(self, total: int | None, on_bytes: OnBytes, cancel: CancelToken) -> None:
        """Take up what an earlier attempt, maybe of another process, has left."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
            self._source, self._validator = str(note["source"]), str(note["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            self._source = self._validator = ""
        self.size_bytes, self.digest = 0, hashlib.sha256()
        if not self.path.is_file():
            return
        self.one_source = False
        with self.path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                cancel.raise_if_cancelled()
                self._take(block, total, on_bytes, checking=True)

    def begin(self, source: str, validator: str) -> None:
        """Begin anew with what `source` serves."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        write_whole(self._note, json.dumps({"source": source, "validator": validator}))
        self._source, self._validator = source, validator
        self.size_bytes, self.digest, self.one_source = 0, hashlib.sha256(), True

    def append(
        self, answer: httpx.Response, total: int | None, on_bytes: OnBytes, cancel: CancelToken
    ) -> None:
        """Write what comes as it comes: of a connection that breaks nothing is lost."""
        with self.path.open("ab") as file:
            for block in answer.iter_raw():
                cancel.raise_if_cancelled()
                if total is not None and self.size_bytes + len(block) > total:
                    raise WrongFileError(f"more than {total} bytes")
                file.write(block)
                self._take(block, total, on_bytes)
        on_bytes(self.size_bytes, total, False)

    def validator_of(self, source: str) -> str:
        """What tells whether `source` still has the file that this is the beginning of; "" if nothing can."""
        return self._validator if source == self._source else ""

    def note_source(self, source: str) -> None:
        """What follows comes from this address."""
        self.one_source &= source == self._source

    def clear(self) -> None:
        """Throw away what is there."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)
        self._source = self._validator = ""
        self.size_bytes, self.digest, self.one_source = 0, hashlib.sha256(), True

    def finish(self, target: Path) -> None:
        """Let the whole file appear under its own name."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)

    def _take(self, block: bytes, total: int | None, on_bytes: OnBytes, checking: bool = False) -> None:
        self.digest.update(block)
        self.size_bytes += len(block)
        now = time.monotonic()
        if now - self._told_s >= _TELL_EVERY_S:
            self._told_s = now
            on_bytes(self.size_bytes, total, checking)


def fetch(
    client: httpx.Client, url: str, part: Part, wanted: Wanted, on_bytes: OnBytes, cancel: CancelToken
) -> None:
    """Bring a part to its end from one address.

    Raises:
        WrongFileError: the address has another file, or does not keep to the rules.
        httpx.HTTPError: it broke off, or the address refuses; what came is kept.
        StepError: there is no room for the file.
        OSError: it cannot be written. CancelledError.
    """
    headers = {"Accept-Encoding": "identity"}
    validator = part.validator_of(url)
    too_long = wanted.size_bytes is not None and part.size_bytes > wanted.size_bytes
    if too_long or (not validator and wanted.sha256 is None):
        part.clear()  # not its beginning, or nothing will tell whether two pieces belong together
    if part.size_bytes and part.size_bytes == wanted.size_bytes:
        return
    if part.size_bytes:
        headers["Range"] = f"bytes={part.size_bytes}-"
        if validator:
            headers["If-Range"] = validator
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and part.size_bytes:
            if wanted.size_bytes in (None, part.size_bytes):
                return  # it is all there, or the checksum will tell
            raise WrongFileError(f"no more than {part.size_bytes} bytes")
        answer.raise_for_status()
        begin, total = _extent(answer)
        _check(answer, total, wanted)
        if begin not in (0, part.size_bytes):
            raise WrongFileError(f"from byte {begin} on, not {part.size_bytes}")
        if begin == 0:
            part.begin(url, _validator(answer))
        part.note_source(url)
        total = wanted.size_bytes if total is None else total
        _check_room(part, total)
        part.append(answer, total, on_bytes, cancel)
    if total is not None and part.size_bytes < total:
        raise httpx.RemoteProtocolError(f"ended at {part.size_bytes} of {total} bytes")


def _extent(answer: httpx.Response) -> tuple[int, int | None]:
    """Where an answer begins in the file, and the size of the whole file."""
    if answer.status_code == httpx.codes.PARTIAL_CONTENT:
        said = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if said is None:
            raise WrongFileError("a part of it, without saying which")
        return int(said[1]), None if said[2] == "*" else int(said[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _check(answer: httpx.Response, total: int | None, wanted: Wanted) -> None:
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise WrongFileError("a web page")  # of a network that asks for a log-in first, most likely
    if None not in (total, wanted.size_bytes) and total != wanted.size_bytes:
        raise WrongFileError(f"{total} bytes, not {wanted.size_bytes}")


def _check_room(part: Part, total: int | None) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and free < total - part.size_bytes:
        raise disk_full(part.path.parent, total - part.size_bytes)


def disk_full(folder: Path, need_bytes: int) -> StepError:
    """The error for a disk without room."""
    have_gb, need_gb = (round(n / 1e9, 1) for n in (shutil.disk_usage(folder).free, need_bytes))
    return StepError(make_code("disk_full", path=str(folder), have_gb=have_gb, need_gb=max(need_gb, 0.1)))


def _validator(answer: httpx.Response) -> str:
    """A strong validator: If-Range takes no other (RFC 9110, 13.1.5)."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else ""

"""Downloads that go on where they broke off, and are checked before anyone uses them."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.step import OnEvent, Progress, StepError
from wsl_bootstrap.transfer import OnBytes, Part, Wanted, WrongFileError, disk_full, fetch

LOG = logging.getLogger(__name__)
_TIMEOUT_S = 20.0
_BLOCK_BYTES = 1 << 20
# An address that sends nothing new is asked this often in all; one that does, as long as it does.
_TRIES = 3
_MOST_JSON_BYTES = 16 << 20
_SUM = re.compile(r"^(?P<sha256>[0-9a-f]{64}) [ *](?P<name>\S+)$", re.MULTILINE)


def find_image(folder_url: str, machine: str, proxy: str | None = None) -> tuple[str, str]:
    """Return address and SHA-256 of the newest .wsl file that a mirror's folder lists for a machine.

    Args:
        folder_url: the folder, which holds a file SHA256SUMS.
        machine: amd64 or arm64.

    Raises:
        StepError: the folder cannot be reached, or lists none.
    """
    folder_url = folder_url.rstrip("/") + "/"
    try:
        with httpx.Client(proxy=proxy, timeout=_TIMEOUT_S, follow_redirects=True) as client:
            answer = client.get(urljoin(folder_url, "SHA256SUMS")).raise_for_status()
    except httpx.HTTPError as problem:
        raise _broken(folder_url, problem) from problem
    named = [found for found in _SUM.finditer(answer.text) if found["name"].endswith(f"-wsl-{machine}.wsl")]
    if not named:
        raise StepError(make_code("download_failed", detail=f"{folder_url}: no -wsl-{machine}.wsl"))
    newest = max(named, key=lambda found: _numbers(found["name"]))
    return urljoin(folder_url, newest["name"]), newest["sha256"]


def fetch_json(url: str, proxy: str | None = None, timeout_s: float = _TIMEOUT_S) -> Any:
    """Return the JSON document at an address.

    Raises:
        StepError: it cannot be reached, is none, or is too long to be one that we asked for.
    """
    try:
        with (
            httpx.Client(proxy=proxy, timeout=timeout_s, follow_redirects=True) as client,
            client.stream("GET", url) as answer,
        ):
            answer.raise_for_status()
            text = bytearray()
            for block in answer.iter_bytes():
                text += block
                if len(text) > _MOST_JSON_BYTES:
                    raise ValueError(f"more than {_MOST_JSON_BYTES} bytes")
        return json.loads(text)
    except (httpx.HTTPError, ValueError, RecursionError) as problem:
        raise _broken(url, problem) from problem


def download(
    urls: Sequence[str],
    target: Path,
    wanted: Wanted,
    on_event: OnEvent,
    cancel: CancelToken,
    proxy: str | None = None,
    *,
    timeout_s: float = _TIMEOUT_S,
    pause_s: float = 1.0,
) -> None:
    """Fetch a file from the first of several addresses that really has it.

    A part that is there already is kept and gone on with. Progress is told in "bytes"; while an earlier part
    is read again for its checksum, in "bytes_checked".

    Args:
        timeout_s: without a byte in this time, a connection counts as broken.
        pause_s: before an address that failed is asked again; doubled each time.

    Raises:
        StepError: no address brought it (the part is kept), or its checksum is wrong (it is removed).
        CancelledError: it was asked to end; the part is kept.
    """
    if target.is_file() and (wanted.sha256 is None or _sha256(target, cancel) == wanted.sha256):
        return

    def tell(done: int, total: int | None, checking: bool) -> None:
        on_event(Progress(done, total, "bytes_checked" if checking else "bytes"))

    part = Part(target)
    try:
        part.load(wanted.size_bytes, tell, cancel)
        with httpx.Client(proxy=proxy, timeout=timeout_s, follow_redirects=True) as client:
            sources = _Sources(urls, cancel, pause_s)
            while (url := sources.next()) is not None:
                if _whole(client, url, part, wanted, tell, cancel, sources):
                    part.finish(target)
                    return
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        missing = (wanted.size_bytes or part.size_bytes) - part.size_bytes
        raise disk_full(part.path.parent, missing) from problem
    raise sources.error(target)


class _Sources:
    """Which address is asked next, and why others are not asked any more."""

    def __init__(self, urls: Sequence[str], cancel: CancelToken, pause_s: float) -> None:
        self._left = list(urls)
        self._cancel, self._pause_s = cancel, pause_s
        self._fruitless = dict.fromkeys(urls, 0)
        self._most_bytes = 0
        self._reasons: dict[str, str] = {}
        self._mismatched = self._refused_only = True

    def next(self) -> str | None:
        """The address to ask, after the pause that it is due; None when there is none left."""
        if not self._left:
            return None
        if tries := self._fruitless[self._left[0]]:
            self._cancel.wait(self._pause_s * 2 ** (tries - 1))
            self._cancel.raise_if_cancelled()
        return self._left[0]

    def drop(self, url: str, reason: str, *, mismatch: bool = False) -> None:
        """It will not bring the file."""
        LOG.warning("%s: %s", url, reason)
        self._left.remove(url)
        self._reasons[url] = reason
        self._mismatched &= mismatch

    def broke(self, url: str, have_bytes: int, reason: str) -> None:
        """It broke off: asked again at once while it brings something, after the others while it does not."""
        LOG.info("%s broke off at %d bytes: %s", url, have_bytes, reason)
        self._reasons[url] = reason
        self._refused_only = self._mismatched = False
        if have_bytes > self._most_bytes:
            self._most_bytes = have_bytes
            self._fruitless[url] = 0
            return
        self._fruitless[url] += 1
        self._left.remove(url)
        if self._fruitless[url] < _TRIES:
            self._left.append(url)

    def error(self, target: Path) -> StepError:
        """What to say when no address is left."""
        if self._mismatched:
            return StepError(make_code("download_mismatch", file=target.name), retryable=True)
        detail = "\n".join(f"{url}: {reason}" for url, reason in self._reasons.items())
        return StepError(make_code("download_failed", detail=detail), retryable=not self._refused_only)


def _whole(
    client: httpx.Client,
    url: str,
    part: Part,
    wanted: Wanted,
    tell: OnBytes,
    cancel: CancelToken,
    sources: _Sources,
) -> bool:
    """Ask one address; return whether the file is there, and right."""
    try:
        fetch(client, url, part, wanted, tell, cancel)
    except WrongFileError as problem:
        sources.drop(url, str(problem))
        return False
    except httpx.HTTPError as problem:
        reason = f"{type(problem).__name__} {problem}".strip()
        if isinstance(problem, httpx.HTTPStatusError) and problem.response.status_code < 500:
            sources.drop(url, reason)
        else:
            sources.broke(url, part.size_bytes, reason)
        return False
    if wanted.sha256 in (None, part.digest.hexdigest()):
        return True
    # Pieces of several addresses, or of an earlier time, may be to blame: then it is asked for all of it.
    if part.one_source:
        sources.drop(url, "wrong checksum", mismatch=True)
    part.clear()
    return False


def _sha256(path: Path, cancel: CancelToken) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            cancel.raise_if_cancelled()
            digest.update(block)
    return digest.hexdigest()


def _broken(url: str, problem: Exception) -> StepError:
    detail = f"{url}: {type(problem).__name__} {problem}".strip()
    refused = isinstance(problem, httpx.HTTPStatusError) and problem.response.status_code < 500
    return StepError(make_code("download_failed", detail=detail), retryable=not refused)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))

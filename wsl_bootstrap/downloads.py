"""Downloads that go on where they broke off, and are checked before anyone uses them."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urljoin

import httpx

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.step import OnEvent, Progress, StepError

LOG = logging.getLogger(__name__)
_TIMEOUT_S = 20.0
_BLOCK_BYTES = 1 << 20
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


def download(
    url: str,
    target: Path,
    sha256: str,
    on_event: OnEvent,
    cancel: CancelToken,
    proxy: str | None = None,
) -> None:
    """Fetch a file of a known checksum; a part that is there already is kept and gone on with.

    Raises:
        StepError: it broke off (the part is kept), or its checksum is wrong (it is removed).
        CancelledError: it was asked to end; the part is kept.
    """
    if target.is_file() and _sha256(target, cancel).hexdigest() == sha256:
        return
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        digest = _fetch(url, part, on_event, cancel, proxy)
    except httpx.HTTPError as problem:
        raise _broken(url, problem) from problem
    except OSError as problem:
        if problem.errno != errno.ENOSPC:
            raise
        free_gb = round(shutil.disk_usage(part.parent).free / 1e9, 1)
        code = make_code("disk_full", path=str(part.parent), have_gb=free_gb, need_gb=1.0)
        raise StepError(code) from problem
    if digest != sha256:
        part.unlink()
        raise StepError(make_code("download_mismatch", file=target.name), retryable=True)
    os.replace(part, target)


def _fetch(url: str, part: Path, on_event: OnEvent, cancel: CancelToken, proxy: str | None) -> str:
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with (
        httpx.Client(proxy=proxy, timeout=_TIMEOUT_S, follow_redirects=True) as client,
        client.stream("GET", url, headers=headers) as answer,
    ):
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _sha256(part, cancel).hexdigest()  # it is all there, or the checksum will tell
        answer.raise_for_status()
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0
        digest = _sha256(part, cancel) if have else hashlib.sha256()
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        told = have
        with part.open("ab" if have else "wb") as file:
            for block in answer.iter_raw():  # as they come: of a connection that breaks, nothing is lost
                cancel.raise_if_cancelled()
                file.write(block)
                digest.update(block)
                have += len(block)
                if have - told >= _BLOCK_BYTES or have == total:
                    told = have
                    on_event(Progress(have, total, "bytes"))
    return digest.hexdigest()


def _sha256(path: Path, cancel: CancelToken) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            cancel.raise_if_cancelled()
            digest.update(block)
    return digest


def _broken(url: str, problem: Exception) -> StepError:
    detail = f"{url}: {type(problem).__name__} {problem}".strip()
    refused = isinstance(problem, httpx.HTTPStatusError) and problem.response.status_code < 500
    return StepError(make_code("download_failed", detail=detail), retryable=not refused)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))

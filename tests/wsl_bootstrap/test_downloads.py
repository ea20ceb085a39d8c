"""Downloads from a real server on this machine: gone on with, checked, stopped."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.downloads import download, find_image
from wsl_bootstrap.step import Progress, StepError

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one content; `breaks_at` ends each answer after so many bytes, `ranges` obeys Range."""

    breaks_at: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.files: dict[str, bytes] = {"/f": CONTENT}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if content is None:
            self.send_error(404)
            return
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = (
            len(content)
            if self.server.breaks_at is None
            else min(begin + self.server.breaks_at, len(content))
        )
        self.wfile.write(content[begin:end])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _fetch(
    server: Server, target: Path, sha256: str = SHA256, cancel: CancelToken | None = None
) -> list[Progress]:
    heard: list[Progress] = []

    def listen(payload: object) -> None:
        assert isinstance(payload, Progress)
        heard.append(payload)

    download(server.url + "f", target, sha256, listen, cancel or CancelToken())
    return heard


def test_a_file_comes_whole_with_progress(server: Server, tmp_path: Path) -> None:
    heard = _fetch(server, tmp_path / "deep" / "f")
    assert (tmp_path / "deep" / "f").read_bytes() == CONTENT
    assert heard[-1] == Progress(len(CONTENT), len(CONTENT), "bytes")
    assert [entry.done for entry in heard] == sorted(entry.done for entry in heard)
    assert _fetch(server, tmp_path / "deep" / "f") == []  # it is there
    assert server.asked == [None]


def test_what_broke_off_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.breaks_at = 2_000_000
    for _ in range(2):
        with pytest.raises(StepError) as broken:
            _fetch(server, tmp_path / "f")
        assert (broken.value.code.id, broken.value.retryable) == ("download_failed", True)
    _fetch(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.asked[0] is None
    begins = [int(str(wanted).removeprefix("bytes=")[:-1]) for wanted in server.asked[1:]]
    assert 0 < begins[0] < begins[1]


def test_a_server_that_ignores_ranges_begins_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "f.part").write_bytes(b"old")
    _fetch(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_part_that_is_already_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    _fetch(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"", b"not the beginning of it"])
def test_a_wrong_checksum_removes_it(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "f.part").write_bytes(part)
    with pytest.raises(StepError) as wrong:
        _fetch(server, tmp_path / "f", SHA256 if part else "0" * 64)
    assert (wrong.value.code.id, wrong.value.retryable) == ("download_mismatch", True)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_keeps_the_part(server: Server, tmp_path: Path) -> None:
    cancel = CancelToken()
    heard: list[object] = []

    def stop(payload: object) -> None:
        heard.append(payload)
        cancel.cancel()

    with pytest.raises(CancelledError):
        download(server.url + "f", tmp_path / "f", SHA256, stop, cancel)
    assert len(heard) == 1
    assert 0 < (tmp_path / "f.part").stat().st_size < len(CONTENT)


def test_what_a_server_refuses_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StepError) as refused:
        download(server.url + "gone", tmp_path / "f", SHA256, lambda payload: None, CancelToken())
    assert (refused.value.code.id, refused.value.retryable) == ("download_failed", False)


def test_the_newest_image_of_a_mirror(server: Server) -> None:
    names = ("ubuntu-24.04.9-wsl-amd64.wsl", "ubuntu-24.04.10-wsl-amd64.wsl", "ubuntu-24.04.10-wsl-arm64.wsl")
    sums = "".join(f"{place:064x} *{name}\n" for place, name in enumerate((*names, "ubuntu-24.04.10.iso")))
    server.files["/images/SHA256SUMS"] = sums.encode()
    assert find_image(server.url + "images", "amd64") == (f"{server.url}images/{names[1]}", f"{1:064x}")
    assert find_image(server.url + "images/", "arm64")[1] == f"{2:064x}"
    for folder, machine in (("images", "riscv64"), ("nothing", "amd64")):
        with pytest.raises(StepError):
            find_image(server.url + folder, machine)

"""What every test starts from: no screen, one torch thread, and a home folder that is thrown away.

The environment is set while this file is imported, before any test module can import Qt or torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast examples come says how busy the machine is, and nothing of what is tested.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

_home = tempfile.TemporaryDirectory(prefix="rwkv-lora-runner-tests-")

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# What is started in the background of a shell ignores Ctrl+C, and so would every program that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["OMP_NUM_THREADS"] = "1"  # two busy processes with two threads each are many times slower
os.environ["HOME"] = _home.name
os.environ.pop("RUNNER_HOME", None)  # would lead past the folders below
for _variable, _folder in (
    ("XDG_CONFIG_HOME", "config"),
    ("XDG_DATA_HOME", "data"),
    ("XDG_CACHE_HOME", "cache"),
    ("XDG_STATE_HOME", "state"),
    ("XDG_RUNTIME_DIR", "runtime"),
    ("LOCALAPPDATA", "local"),
    ("APPDATA", "roaming"),
):
    _path = Path(_home.name, _folder)
    _path.mkdir(mode=0o700)  # Qt refuses a runtime folder that others can read
    os.environ[_variable] = str(_path)


def pytest_unconfigure() -> None:
    """Remove the home folder of this session."""
    _home.cleanup()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KB; needs the rights to mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@dataclass
class Behaviour:
    """How a path of the file server misbehaves.

    Attributes:
        breaks_at: each answer ends after so many bytes. stalls_at: it stops sending there, and keeps the
            connection. ranges: whether Range is obeyed. etag: sent, and compared with If-Range.
        says_bytes, says_from: the size and the place that it tells, whatever it sends. redirect: to where.
        type: Content-Type. paced: with it, each block waits for `released`. chunked: no Content-Length.
        status: answered in place of the file.
    """

    content: bytes = b""
    breaks_at: int | None = None
    stalls_at: int | None = None
    ranges: bool = True
    etag: str = ""
    says_bytes: int | None = None
    says_from: int | None = None
    redirect: str = ""
    type: str = "application/octet-stream"
    paced: bool = False
    chunked: bool = False
    status: int = 0


@dataclass
class FileServer:
    """A real HTTP server on this machine; `paths` says what it serves and how it misbehaves.

    Attributes:
        asked: path, Range and If-Range of each request. released: lets paced answers go on.
    """

    port: int
    paths: dict[str, Behaviour] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, path: str, content: bytes, **how: object) -> str:
        """Serve this from now on; returns its address."""
        self.paths[path] = Behaviour(content, **how)  # type: ignore[arg-type]
        return self.url + path


class _Handler(BaseHTTPRequestHandler):
    files: FileServer

    def do_GET(self) -> None:
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        self.files.asked.append((self.path, asked, condition))
        how = self.files.paths.get(self.path)
        if how is None or how.status:
            self.send_error(how.status if how else 404)
            return
        if how.redirect:
            self.send_response(302)
            self.send_header("Location", how.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        whole = not asked or not how.ranges or (condition is not None and condition != how.etag)
        begin = 0 if whole else int(str(asked).removeprefix("bytes=").rstrip("-"))
        if begin >= len(how.content):
            self.send_error(416)
            return
        told = how.says_bytes if how.says_bytes is not None else len(how.content)
        self.send_response(200 if whole else 206)
        self.send_header("Content-Type", how.type)
        if not how.chunked:
            self.send_header("Content-Length", str(told - begin))
        if not whole:
            self.send_header(
                "Content-Range",
                f"bytes {begin if how.says_from is None else how.says_from}-{told - 1}/{told}",
            )
        if how.etag:
            self.send_header("ETag", how.etag)
        self.end_headers()
        self._send(how, begin)

    def _send(self, how: Behaviour, begin: int) -> None:
        ends = [len(how.content), *(begin + n for n in (how.breaks_at, how.stalls_at) if n is not None)]
        for at in range(begin, min(ends), 65536):
            if how.paced:
                self.files.released.wait()
            try:
                self.wfile.write(how.content[at : min(at + 65536, *ends)])
            except OSError:
                return  # the client has gone
        if how.stalls_at is not None:
            self.wfile.flush()
            self.files.closing.wait()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A server of files that can be told to misbehave."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        handler.files = files = FileServer(running.server_port)
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield files
        files.closing.set()
        files.released.set()
        running.shutdown()
        thread.join()

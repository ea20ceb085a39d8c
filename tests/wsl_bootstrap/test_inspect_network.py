"""Asking pip, as it is, whether an index answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wsl_bootstrap import inspect_network


class Index(BaseHTTPRequestHandler):
    """A package index with one version of pip."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/simple/pip/", "/debian/dists/", "/ubuntu/dists/") else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b'<a href="/pip-99.0-py3-none-any.whl">pip-99.0-py3-none-any.whl</a>')

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def test_each_index_is_asked(url: str) -> None:
    closed = "http://127.0.0.1:9"
    asked = json.dumps(
        {"here": url, "gone": url.replace("simple", "gone"), "closed": f"{closed}/simple", "no apt": url}
    )
    servers = json.dumps({"here": url.removesuffix("/simple"), "no apt": closed})
    done = subprocess.run(
        [sys.executable, "-c", Path(inspect_network.__file__).read_text("utf-8"), asked, "", servers],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers = json.loads(done.stdout)
    assert answers["here"] == ""
    assert answers["gone"]
    assert answers["closed"]
    assert answers["no apt"].startswith("apt: ")


def test_without_pip_nothing_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_network, "_carried_pip", lambda: None)
    assert inspect_network.reach({"official": None}, "") is None


def test_an_interpreter_carries_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    real = inspect_network.util.find_spec
    monkeypatch.setattr(inspect_network.util, "find_spec", lambda name: None if name == "pip" else real(name))
    carried = inspect_network._carried_pip()
    assert carried is None or carried.endswith(".whl")

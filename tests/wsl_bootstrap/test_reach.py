"""Addresses that a person gives, asked for real: servers here that answer, refuse, or are not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from wsl_bootstrap.mirrors import MIRRORS, Mirror
from wsl_bootstrap.reach import check, odd

SERVED = ("/simple/pip/", "/debian/dists/", "/images/SHA256SUMS", "/hub/")


class Server(BaseHTTPRequestHandler):
    """A mirror, and a proxy for those who ask with a whole address."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200 if urlsplit(self.path).path in SERVED else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Server, "asked", [], raising=False)
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_what_answers_is_fine(server: str) -> None:
    given = Mirror(f"{server}/simple", server, f"{server}/images/", f"{server}/hub")
    assert check(given, None) == {}
    assert check(given, server) == {}  # a proxy that answers, with servers it need not be asked for
    assert check(Mirror(), None) == {}


def test_each_address_is_judged_by_itself(server: str, dead: str) -> None:
    wrong = check(Mirror(f"{server}/elsewhere", "ftp://x", f"{server}/images", f"{dead}/hub"), None)
    assert {name: code.id for name, code in wrong.items()} == {
        "packages": "address_silent",
        "system": "address_odd",
        "models": "address_silent",
    }
    assert str(wrong["packages"].args["detail"]).startswith("404")


def test_everything_goes_through_the_proxy(server: str, dead: str) -> None:
    given = Mirror("http://nowhere.invalid/simple")
    assert check(given, server) == {}
    assert Server.asked == ["http://nowhere.invalid/simple/pip/"]
    assert {name: code.id for name, code in check(given, dead).items()} == {"proxy": "address_silent"}
    assert check(given, "proxy:8080")["proxy"].id == "address_odd"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"])
def test_a_proxy_of_this_computer_alone_is_no_use_to_a_linux_beside_it(host: str) -> None:
    proxy = f"http://{host}:7890"
    assert check(Mirror(), proxy, linux_elsewhere=True)["proxy"].id == "proxy_only_on_windows"


@pytest.mark.parametrize(
    "text",
    ["", "mirror", "//x/y", "http://", "https:///simple", "http://x:port/", "http://x:99999/", "file:///etc",
     "http://a b/", "http://x/'; rm -rf /", "http://[::1/", "socks5://x:1"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    assert odd(text)


@pytest.mark.parametrize(
    "text", ["http://x", "https://镜像.example/simple/", "http://[::1]:8080/", "http://u:p@x:1/"]
)
def test_what_is_one(text: str) -> None:
    assert not odd(text)


@pytest.mark.parametrize(
    ("system", "ends"),
    [("Ubuntu-24.04", "/24.04/"), ("Ubuntu-22.04", "/22.04/"), ("Debian", None), ("Ubuntu", None)],
)
def test_images_are_those_of_the_chosen_system(system: str, ends: str | None) -> None:
    found = MIRRORS["ustc"].images_of(system)
    assert (found is None) if ends is None else str(found).endswith(ends)
    assert Mirror(images="http://x/mine/").images_of(system) == "http://x/mine/"

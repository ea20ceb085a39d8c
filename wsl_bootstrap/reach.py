"""Whether addresses that a person gives are addresses, and answer, before anything is fetched from them."""

from __future__ import annotations

import re
import socket
from dataclasses import asdict
from urllib.parse import urljoin, urlsplit

import httpx

from wsl_bootstrap.codes import Code, make_code
from wsl_bootstrap.mirrors import Mirror

PROXY = "proxy"
_TIMEOUT_S = 8.0
_ODD = re.compile(r"[\s\"'<>\\|]")
# What is asked for of each source; one of several will do.
_LOOK_FOR = {
    "packages": ("pip/",),
    "system": ("ubuntu/dists/", "debian/dists/"),
    "images": ("SHA256SUMS", ""),
    "models": ("",),
}


def odd(address: str) -> bool:
    """Return whether a text is no address of a server, as tools take it."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return True
    return not known or bool(_ODD.search(address))


def check(addresses: Mirror, proxy: str | None, *, linux_elsewhere: bool = False) -> dict[str, Code]:
    """Ask every address that is given and return what is wrong, by the names of the fields and "proxy".

    Args:
        addresses: what is used in place of the tools' own; None is not asked.
        proxy: asked first, and everything else through it.
        linux_elsewhere: what downloads is a Linux beside this system, to which a proxy of this computer alone
            is out of reach.
    """
    given = {name: address for name, address in asdict(addresses).items() if address}
    wrong = {
        name: make_code("address_odd", address=address) for name, address in given.items() if odd(address)
    }
    if proxy and (problem := _check_proxy(proxy, linux_elsewhere)):
        return {**wrong, PROXY: problem}
    with httpx.Client(proxy=proxy or None, timeout=_TIMEOUT_S, follow_redirects=True) as client:
        for name in given.keys() - wrong.keys():
            if detail := _ask(client, given[name], _LOOK_FOR[name]):
                wrong[name] = make_code("address_silent", address=given[name], detail=detail)
    return wrong


def _check_proxy(proxy: str, linux_elsewhere: bool) -> Code | None:
    if odd(proxy):
        return make_code("address_odd", address=proxy)
    parts = urlsplit(proxy)
    host = str(parts.hostname)
    if linux_elsewhere and (host == "localhost" or host == "::1" or host.startswith("127.")):
        return make_code("proxy_only_on_windows", proxy=proxy)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((host, port), _TIMEOUT_S).close()
    except OSError as problem:
        return make_code("address_silent", address=proxy, detail=str(problem))
    return None


def _ask(client: httpx.Client, address: str, names: tuple[str, ...]) -> str:
    """Return nothing if one of the names answers, else what came of the last."""
    detail = ""
    for name in names:
        try:
            with client.stream("GET", urljoin(address.rstrip("/") + "/", name)) as answer:
                if answer.status_code < httpx.codes.BAD_REQUEST:
                    return ""
                detail = f"{answer.status_code} {answer.reason_phrase}"
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            detail = str(problem) or type(problem).__name__
    return detail

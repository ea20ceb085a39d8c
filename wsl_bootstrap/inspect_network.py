"""Prints, as one JSON line, which mirrors pip reaches from the interpreter that runs this, and apt would.

Run by its text (`python -c`) in a Linux that need not have this project, nor pip: an interpreter carries a
copy of it for making environments. pip itself is asked, so its own settings and default count.
Arguments: a JSON object of names and addresses of Python package indexes (null: pip's default), a proxy or
nothing, and a JSON object of names and servers for apt, of those mirrors that have one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from urllib import request

_TIMEOUT_S = 5


def _carried_pip() -> str | None:
    """Return what has to be on PYTHONPATH for pip to be found: nothing, or the file that holds it."""
    if util.find_spec("pip"):
        return ""
    folders = [Path("/usr/share/python-wheels")]
    ensurepip = util.find_spec("ensurepip")
    if ensurepip and ensurepip.origin:
        folders.append(Path(ensurepip.origin).parent / "_bundled")
    return next((str(wheel) for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), None)


def reach(indexes: dict[str, str | None], proxy: str) -> dict[str, str] | None:
    """Return for each index the end of what went wrong, or nothing; None when there is no pip to ask with."""
    carried = _carried_pip()
    if carried is None:
        return None
    asked = {}
    for name, url in indexes.items():
        command = [sys.executable, "-m", "pip", "index", "versions", "pip", "--retries", "0", "--no-input"]
        command += ["--timeout", str(_TIMEOUT_S), "--disable-pip-version-check"]
        command += ["--index-url", url] if url else []
        command += ["--proxy", proxy] if proxy else []
        asked[name] = subprocess.Popen(
            command,
            env={**os.environ, **({"PYTHONPATH": carried} if carried else {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    answers = {}
    for name, process in asked.items():
        said = process.communicate()[1].decode("utf-8", "replace").strip()
        answers[name] = "" if process.returncode == 0 else said[-300:] or f"exit {process.returncode}"
    return answers


def silent_for_apt(server: str, proxy: str) -> str:
    """Return what went wrong when this system's packages were looked for at a server, or nothing."""
    told = Path("/etc/os-release").read_text("utf-8") if Path("/etc/os-release").is_file() else ""
    system = "debian" if "ID=debian" in told.splitlines() else "ubuntu"
    opener = request.build_opener(request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None))
    try:
        with opener.open(f"{server.rstrip('/')}/{system}/dists/", timeout=_TIMEOUT_S):
            return ""
    except OSError as problem:
        return f"apt: {problem}"


def main(indexes: dict[str, str | None], proxy: str, servers: dict[str, str]) -> dict[str, str] | None:
    """Return for each mirror what stands in its way, or nothing; None when nothing can be asked."""
    answers = reach(indexes, proxy)
    for name, server in servers.items() if answers else ():
        if answers and not answers[name]:
            answers[name] = silent_for_apt(server, proxy)
    return answers


if __name__ == "__main__":
    indexes_given, proxy_given, servers_given = sys.argv[1:]
    found = main(json.loads(indexes_given), proxy_given, json.loads(servers_given))
    sys.stdout.write(json.dumps(found) + "\n")

"""Prints, as one JSON line, what an interpreter is and which packages it has.

Run by its text (`python -c`) in interpreters that need not have this project, so it imports the standard
library only. torch is imported by name, in that other process, and only where it is installed.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module, metadata, util
from urllib.parse import unquote, urlsplit


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _torch_facts() -> dict[str, object] | None:
    if not _installed("torch"):
        return None
    torch = import_module("torch")
    return {
        "version": str(torch.__version__),
        "cuda_version": torch.version.cuda,
        "sees_gpu": torch.cuda.is_available(),
    }


def _ours(name: str) -> dict[str, object] | None:
    """Return what pip remembers of where our packages came from."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    archive = origin.get("archive_info", {})
    sha256 = archive.get("hashes", {}).get("sha256") or str(archive.get("hash", "")).rpartition("sha256=")[2]
    path = unquote(urlsplit(origin.get("url", "")).path)
    return {
        "version": found.version,
        "folder": path if "dir_info" in origin else None,
        "sha256": sha256 or None,
    }


def _stamp(package: str) -> str | None:
    """Return what differs after every installation of a package, without importing it."""
    found = util.find_spec(package)
    return f"{found.origin} {os.stat(found.origin).st_mtime_ns}" if found and found.origin else None


def inspect(packages: list[str], *, with_torch: bool) -> dict[str, object]:
    """Return the facts of the interpreter that runs this."""
    return {
        "version": list(sys.version_info[:3]),
        "can_make_venv": all(util.find_spec(module) for module in ("venv", "ensurepip")),
        "missing": [package for package in packages if not _installed(package)],
        "ours": _ours("rwkv-lora-runner"),
        "torch_stamp": _stamp("torch"),
        "torch": _torch_facts() if with_torch else None,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(inspect(sys.argv[2:], with_torch=sys.argv[1] == "torch")) + "\n")

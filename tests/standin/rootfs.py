"""A store of Debian root file systems: made once by debootstrap, kept outside of the checkout.

rootfs.py             makes what is missing and prints the file
rootfs.py --store     prints the folder
rootfs.py --missing   prints what a real distribution cannot be tried for here and now, and ends with 1; or 0
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs

SUITE = "bookworm"
PIP = (sys.executable, "-m", "pip")
PACKAGES = ("ca-certificates", "gcc", "libc6-dev", "python3", "python3-dev", "python3-venv")


def store() -> Path:
    """The folder of the store; RUNNER_ROOTFS_STORE moves it."""
    return Path(
        os.environ.get("RUNNER_ROOTFS_STORE") or platformdirs.user_cache_path("rwkv-lora-runner-rootfs")
    )


def image() -> Path:
    """The file, whether it was made or not."""
    key = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    return store() / f"{SUITE}-{key}.tar.gz"


def missing() -> str:
    """Return what is not there for a distribution with a trainer in it, or nothing."""
    if os.getuid():
        return "not root"
    if not image().exists():
        return "no root file system was made yet: scripts/test-wsl"
    with tempfile.TemporaryDirectory() as folder:
        for lacking, command in {
            "no namespaces": ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "true"],
            # A small package stands for all of them.
            "no package index": [*PIP, "download", "--no-deps", "--no-cache-dir", "--dest", folder, "six"],
        }.items():
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if done.returncode:
                return lacking
    return ""


def debian() -> Path:
    """Return a Debian root file system as a .tar.gz, made now where the store has none.

    Raises:
        CalledProcessError, FileNotFoundError: root, debootstrap or packages are missing.
    """
    path = image()
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        root, packed = Path(folder, "root"), Path(folder, "packed.tar.gz")
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        subprocess.run([*command, *_mirror()], check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        shutil.rmtree(root / "var" / "cache" / "apt" / "archives", ignore_errors=True)
        pack = ["tar", "-C", root, "--numeric-owner", "-I", "gzip -1", "-cf", packed, "."]
        subprocess.run(pack, check=True)
        packed.replace(path)
    return path


def _mirror() -> list[str]:
    """Return where this machine's own apt gets the suite, as debootstrap wants it, or nothing."""
    for source in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        text = source.read_text("utf-8", "replace") if source.is_file() else ""
        lines = re.findall(rf"(?m)^deb (?:\[[^\]]*\] )?(\S+) {SUITE} ", text)
        for stanza in text.split("\n\n"):
            if re.search(rf"(?m)^Suites:.*\b{SUITE}(\s|$)", stanza):
                lines += re.findall(r"(?m)^URIs: *(\S+)", stanza)
        if lines:
            return [lines[0]]
    return []


def pip_binds() -> list[str]:
    """Return what pip inside needs of this machine: its configuration, its certificates, local wheels."""
    told = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    named = re.findall(r"(?:file://)?(/[^\s'\",]+)", told)
    # An index in a folder points to files beside itself.
    named = [str(Path(path).parent) if Path(path).name == "simple" else path for path in named]
    files = [
        "/etc/pip.conf",
        "/etc/xdg/pip",
        str(Path.home() / ".config" / "pip"),
        "/etc/ssl/certs/ca-certificates.crt",
        *named,
    ]
    return sorted({path.rstrip("/") for path in files if os.path.exists(path)})


if __name__ == "__main__":
    asked = sys.argv[1] if sys.argv[1:] else ""
    told = {"--store": store, "--missing": missing}.get(asked, debian)()
    sys.stdout.write(f"{told}\n")
    sys.exit(bool(told) if asked == "--missing" else 0)

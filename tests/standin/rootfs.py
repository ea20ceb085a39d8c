"""A store of Debian root file systems: made once by debootstrap, kept outside of the checkout."""

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
PACKAGES = ("ca-certificates", "gcc", "libc6-dev", "python3", "python3-dev", "python3-venv")


def store() -> Path:
    """The folder of the store; RUNNER_ROOTFS_STORE moves it."""
    return Path(
        os.environ.get("RUNNER_ROOTFS_STORE") or platformdirs.user_cache_path("rwkv-lora-runner-rootfs")
    )


def debian() -> Path:
    """Return a Debian root file system as a .tar.gz, made now where the store has none.

    Raises:
        CalledProcessError, FileNotFoundError: root, debootstrap or packages are missing.
    """
    key = hashlib.sha256(" ".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    path = store() / f"{SUITE}-{key}.tar.gz"
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
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    named = re.findall(r"(?:file://)?(/[^\s'\",]+)", told)
    # An index in a folder points to files beside itself.
    named = [str(Path(path).parent) if Path(path).name == "simple" else path for path in named]
    files = [
        "/etc/pip.conf",
        "/etc/xdg/pip",
        "/root/.config/pip",
        "/etc/ssl/certs/ca-certificates.crt",
        *named,
    ]
    return sorted({path.rstrip("/") for path in files if os.path.exists(path)})


if __name__ == "__main__":
    sys.stdout.write(f"{debian()}\n")

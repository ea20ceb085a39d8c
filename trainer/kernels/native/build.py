"""Compiling a C file for this machine, once, and loading it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from trainer.contract.errors import AppError
from trainer.contract.files import atomic_write
from trainer.contract.folders import cache_folder

COMPILERS = ("cc", "gcc", "clang")
# Without -ffast-math: it would change how the whole process rounds tiny numbers, and no NaN would be seen.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
_TIMEOUT_S = 120.0


class NativeUnavailableError(RuntimeError):
    """Native code cannot run here; the message says why. Other forms compute the same."""


def load_library(source: Path) -> ctypes.CDLL:
    """The C file, with the headers beside it, as a library from the cache or compiled now.

    Processes that compile the same file at the same time do not disturb each other.

    Raises:
        NativeUnavailableError: there is no C compiler, or it fails, or its result cannot be kept or loaded.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NativeUnavailableError("there is no C compiler")
    try:
        text = b"".join(file.read_bytes() for file in (source, *sorted(source.parent.glob("*.h"))))
        path = cache_folder() / "kernels" / f"{source.stem}-{_key(text, compiler)}.so"
        if not path.exists():
            _compile(source, compiler, path)
        return ctypes.CDLL(str(path))
    except (OSError, AppError) as error:
        raise NativeUnavailableError(str(error)) from error


def _key(text: bytes, compiler: str) -> str:
    """What a compiled file depends on: its text, the compiler and what the processor can do."""
    real = Path(compiler).resolve()
    stat = real.stat()
    parts = (*FLAGS, str(real), str(stat.st_size), str(stat.st_mtime_ns), platform.machine(), cpu_flags())
    return hashlib.sha256(text + "\0".join(parts).encode()).hexdigest()[:32]


def cpu_flags() -> str:
    """What the processor can do, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(source: Path, compiler: str, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, path.name)
        command = [compiler, *FLAGS, "-o", str(built), str(source)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NativeUnavailableError(f"{compiler} did not end within {_TIMEOUT_S:.0f} s") from error
        if done.returncode != 0:
            said = os.fsdecode(done.stderr).strip().splitlines()
            raise NativeUnavailableError(f"{compiler} failed: {said[-1] if said else done.returncode}")
        with atomic_write(path) as file:
            file.write(built.read_bytes())

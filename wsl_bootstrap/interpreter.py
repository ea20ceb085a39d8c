"""Asking a Python interpreter, in a process of its own, what it is and what it has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsl_bootstrap.hosts.base import Host

_SCRIPT = Path(__file__).with_name("inspect_python.py")
_TIMEOUT_S = 20.0
_TORCH_TIMEOUT_S = 180.0  # the first import reads a gigabyte from a cold disk


class InterpreterError(Exception):
    """The interpreter is there and does not work; the message is the end of what it said."""


@dataclass(frozen=True)
class TorchFacts:
    """The torch of an interpreter, imported and asked."""

    version: str
    cuda_version: str | None  # None for a build without CUDA
    sees_gpu: bool


@dataclass(frozen=True)
class OursFacts:
    """Our own packages as pip installed them: from a folder, from a file of that hash, or by name."""

    version: str
    folder: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class PythonFacts:
    """What an interpreter said of itself. `torch` is None when not installed or not asked for."""

    version: tuple[int, int, int]
    can_make_venv: bool
    missing_packages: tuple[str, ...]
    torch: TorchFacts | None
    ours: OursFacts | None = None
    torch_stamp: str | None = None  # differs after every installation of torch; None when there is none

    @property
    def version_text(self) -> str:
        """As people write it: 3.11.7."""
        return ".".join(map(str, self.version))


def ask_python(host: Host, python: str, packages: Sequence[str], *, with_torch: bool = False) -> PythonFacts:
    """Return what the interpreter `python` says of itself, of some packages and, if asked, of its torch.

    Raises:
        CommandNotFoundError: there is no such interpreter.
        CommandTimeoutError: it does not answer.
        InterpreterError: it, or its torch, does not work.
    """
    # -P would be right against a stray torch.py beside us, but is newer than Python 3.10; -I would hide the
    # person's own site settings. The root folder has neither.
    done = host.run(
        [python, "-c", _SCRIPT.read_text("utf-8"), "torch" if with_torch else "no-torch", *packages],
        timeout_s=_TORCH_TIMEOUT_S if with_torch else _TIMEOUT_S,
        cwd=Path("/"),
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
        torch = answer["torch"]
        return PythonFacts(
            version=tuple(answer["version"]),
            can_make_venv=answer["can_make_venv"],
            missing_packages=tuple(answer["missing"]),
            torch=TorchFacts(**torch) if torch else None,
            ours=OursFacts(**answer["ours"]) if answer.get("ours") else None,
            torch_stamp=answer.get("torch_stamp"),
        )
    except (IndexError, ValueError, KeyError, TypeError):
        said = (done.stderr or done.stdout).strip()
        raise InterpreterError(said[-500:] or f"exit code {done.exit_code}") from None

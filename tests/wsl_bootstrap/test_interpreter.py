"""Asking real interpreters."""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from pathlib import Path

import pytest

from wsl_bootstrap.hosts.base import CommandNotFoundError
from wsl_bootstrap.hosts.linux import LinuxHost
from wsl_bootstrap.interpreter import InterpreterError, TorchFacts, ask_python


def test_this_interpreter_tells_the_truth() -> None:
    facts = ask_python(LinuxHost(), sys.executable, ["psutil", "no-such-package", "pydantic"])
    assert facts.version == sys.version_info[:3]
    assert facts.version_text == sys.version.split()[0]
    assert facts.missing_packages == ("no-such-package",)
    assert facts.can_make_venv
    assert facts.torch is None


def test_torch_is_imported_when_asked_for() -> None:
    facts = ask_python(LinuxHost(), sys.executable, [], with_torch=True)
    version = metadata.version("torch")
    assert isinstance(facts.torch, TorchFacts)
    assert facts.torch.version == version
    assert (facts.torch.cuda_version is None) == ("+cpu" in version)


def test_what_is_printed_on_the_way_does_no_harm(tmp_path: Path) -> None:
    noisy = tmp_path / "python"
    noisy.write_text(f'#!/bin/sh\necho "welcome"\nexec {shlex.quote(sys.executable)} "$@"\n')
    noisy.chmod(0o755)
    assert ask_python(LinuxHost(), str(noisy), []).version == sys.version_info[:3]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'lib missing' >&2; exit 127", "lib missing"),
        ("exit 3", "exit code 3"),
        ("echo '{}'", "{}"),
        ("echo '[1]'", "[1]"),
    ],
)
def test_one_that_does_not_work_is_quoted(tmp_path: Path, script: str, said: str) -> None:
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    with pytest.raises(InterpreterError, match=said.replace("[", r"\[")):
        ask_python(LinuxHost(), str(broken), [])


def test_one_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CommandNotFoundError):
        ask_python(LinuxHost(), str(tmp_path / "python"), [])

"""scripts/run and its set-up, with a Python that only notes what it is asked.

The real installation takes a minute and a network; scripts/test itself is the proof that it works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell")

# Plays the Python that is found, the one in .venv, pip and the programs: notes its arguments and obeys.
FAKE_PYTHON = """#!/bin/sh
printf '%s\\n' "$*" >>"$FAKE_LOG"
case "$*" in
    '-m venv '*)
        mkdir -p "$4/bin"
        cp "$0" "$4/bin/python"
        echo 'version = 3.11.7' >"$4/pyvenv.cfg" ;;
    '-c import sys; print('*) echo 3.11 ;;
    *version\\(\\"torch\\"\\)*) echo "${FAKE_TORCH:-none}" ;;
    *' pip install '*)
        case "$*" in
            *"${FAKE_PIP_REFUSES:-nothing at all}"*) echo 'No matching distribution' && exit 1 ;;
        esac
        packages=$(dirname "$0")/../lib/python3.11/site-packages
        case "$*" in
            *' -e .'*) mkdir -p "$packages" && pwd >"$packages/_editable_impl_rwkv_lora_runner.pth" ;;
        esac ;;
    '-m runner_gui'*) pwd >>"$FAKE_LOG" ;;
esac
"""


class Checkout:
    """A copy of the scripts in a folder with an awkward name, and a way to run them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a 'b' $(c) 李"
        self.elsewhere = folder / "elsewhere"
        self.log = folder / "log.txt"
        self.python = folder / "python"
        self.elsewhere.mkdir()
        self.python.write_text(FAKE_PYTHON)
        self.python.chmod(0o755)
        shutil.copytree(SCRIPTS / "lib", self.root / "scripts" / "lib")
        shutil.copy(SCRIPTS / "run", self.root / "scripts" / "run")
        (self.root / "pyproject.toml").write_text("[project]\n")
        (self.root / "constraints.txt").write_text("torch==2.13.0\n")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "FAKE_LOG": str(self.log)}
        environment |= {"RUNNER_PYTHON": str(self.python), "RUNNER_GPU": "0", "DISPLAY": ":9", **variables}
        command = [str(self.root / "scripts" / "run"), *arguments]
        return subprocess.run(
            command,
            cwd=self.elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def asked(self, word: str) -> list[str]:
        """What the fake Python was asked that holds a word, oldest first; then the notes are cleared."""
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line for line in lines if word in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--headless", "--work-dir"], ["--work-dir", "x"]])
def test_wrong_usage_installs_nothing(checkout: Checkout, arguments: list[str]) -> None:
    result = checkout.run(*arguments)
    assert result.returncode == 2
    assert "Usage: ./scripts/run" in result.stderr
    assert not (checkout.root / ".venv").exists()


def test_help_says_what_it_does(checkout: Checkout) -> None:
    result = checkout.run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "--setup-only" in result.stdout


def test_a_second_run_installs_nothing_and_a_changed_project_does(checkout: Checkout) -> None:
    assert checkout.run("--setup-only").returncode == 0
    assert len(checkout.asked("pip install")) == 2
    assert checkout.run("--setup-only").returncode == 0
    assert checkout.asked("pip install") == []
    (checkout.root / "constraints.txt").write_text("torch==2.13.1\n")
    assert checkout.run("--setup-only").returncode == 0
    assert "torch==2.13.1+cpu" in checkout.asked("pip install")[0]


def test_a_failed_installation_is_told_and_done_again(checkout: Checkout) -> None:
    failed = checkout.run("--setup-only", FAKE_PIP_REFUSES="[train]")
    assert failed.returncode == 1
    assert "No matching distribution" in failed.stderr
    assert not (checkout.root / ".venv" / "ready-run").exists()
    checkout.asked("")
    assert checkout.run("--setup-only").returncode == 0
    assert any("[train]" in line for line in checkout.asked("pip install"))


def test_without_a_gpu_the_build_without_cuda_comes_first(checkout: Checkout) -> None:
    assert checkout.run("--setup-only").returncode == 0
    torch, project = checkout.asked("pip install")
    assert "--no-deps torch==2.13.0+cpu" in torch
    assert project.endswith(" -e .[train]")


def test_without_a_gpu_and_without_such_a_build_the_full_one_is_taken_and_told(checkout: Checkout) -> None:
    refused = checkout.run("--setup-only", FAKE_PIP_REFUSES="+cpu")
    assert refused.returncode == 0
    assert "about 3 GB" in refused.stderr
    _, uv, project = checkout.asked("pip install")
    assert uv.endswith(" uv")
    assert project.endswith(" -e .[train]")


def test_with_a_gpu_no_build_is_looked_for(checkout: Checkout) -> None:
    assert checkout.run("--setup-only", RUNNER_GPU="1").returncode == 0
    assert len(checkout.asked("pip install")) == 1


def test_a_named_index_decides_where_torch_comes_from(checkout: Checkout) -> None:
    assert checkout.run("--setup-only", RUNNER_TORCH_INDEX="file:///wheels").returncode == 0
    assert "--index-url file:///wheels torch==2.13.0" in checkout.asked("pip install")[0]


def test_an_unfinished_package_is_installed_again(checkout: Checkout) -> None:
    assert checkout.run("--setup-only").returncode == 0
    packages = checkout.root / ".venv" / "lib" / "python3.11" / "site-packages"
    whole, cut_off = packages / "whole-1.dist-info", packages / "cut-1.dist-info"
    whole.mkdir(parents=True)
    cut_off.mkdir()
    (whole / "RECORD").touch()
    (checkout.root / ".venv" / "ready-run").unlink()
    assert checkout.run("--setup-only").returncode == 0
    assert (whole.exists(), cut_off.exists()) == (True, False)


def test_python_starts_in_every_locale_wherever_the_checkout_is(checkout: Checkout) -> None:
    assert checkout.run("--setup-only").returncode == 0
    packages = checkout.root / ".venv" / "lib" / "python3.11" / "site-packages"
    note = (packages / "_editable_impl_rwkv_lora_runner.pth").read_bytes()
    assert note.isascii()
    assert (packages / note.decode("ascii").strip()).resolve() == checkout.root.resolve()


def test_the_window_starts_in_the_checkout(checkout: Checkout) -> None:
    assert checkout.run().returncode == 0
    assert checkout.log.read_text("utf-8").splitlines()[-2:] == ["-m runner_gui", str(checkout.root)]


def test_without_a_display_the_sample_runs_in_the_terminal(checkout: Checkout) -> None:
    result = checkout.run(DISPLAY="")
    assert "no display" in result.stdout
    assert checkout.asked("runner_gui")[0] == "-m runner_gui.headless"


def test_a_relative_work_folder_is_meant_from_where_the_user_is(checkout: Checkout) -> None:
    assert checkout.run("--headless", "--work-dir", "o u t").returncode == 0
    assert checkout.asked("headless")[0].endswith(f"--work-dir {checkout.elsewhere}/o u t")


def test_a_python_that_does_not_fit_is_named(checkout: Checkout) -> None:
    result = checkout.run("--setup-only", RUNNER_PYTHON="/bin/false")
    assert result.returncode == 1
    assert "RUNNER_PYTHON is /bin/false" in result.stderr

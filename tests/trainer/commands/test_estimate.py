"""`estimate` as it is started: without torch, and honest about what it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.cli import main

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from trainer.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def base(make_checkpoint: Callable[..., Any], tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "base.pth")
    return tmp_path / "base.pth"


def test_it_needs_no_torch_and_adds_up(base: Path) -> None:
    command = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        "estimate",
        f"--base-model={base}",
        "--ctx-len=16384",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    parts = ("process", "weights", "trained", "activations")
    assert found["total_bytes"] == sum(found[f"{part}_bytes"] for part in parts)
    assert found["tokens"] == 16384 < found["largest_tokens"]


def test_what_does_not_fit_ends_with_a_status_of_its_own(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["estimate", f"--base-model={base}", "--ctx-len=1048576", "--micro-bsz=1024"]
    assert main(flags) == 2
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[:2])
    assert shown["process"].endswith("GB")


@pytest.mark.parametrize("flag", ["--method=state", "--quant=nf4", "--device=cuda"])
def test_what_was_never_measured_is_not_guessed(
    flag: str, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["estimate", f"--base-model={base}", flag]) == 2
    assert "error[param_conflict]" in capsys.readouterr().err

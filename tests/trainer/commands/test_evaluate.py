"""`eval` as it is started: loss, drift and answers of a base with an adapter, and of a merged model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def run(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", "eval", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.fixture
def files(make_checkpoint: Callable[..., Any], make_adapter: Callable[..., Any], tmp_path: Path) -> Path:
    sizes = {"n_layer": 2, "n_embd": 32, "vocab": 65536, "head_size": 16}
    make_checkpoint(tmp_path / "base.pth", **sizes, seed=3)
    make_adapter(tmp_path / "adapter.pth", tmp_path / "base.pth")
    return tmp_path


def test_an_adapter_against_its_base_and_a_merged_model_against_it(files: Path) -> None:
    base, adapter, merged = files / "base.pth", files / "adapter.pth", files / "merged.pth"
    text = files / "text.txt"
    text.write_text("The sea is salt water. " * 4, encoding="utf-8")
    asked = ("--drift", text, "--prompt", "User: a\n\nAssistant:", "--tokens", 4, "--data", text, "--json")
    done = run("--model", base, "--adapter", adapter, *asked)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["drift"]["kl"] > 0
    assert found["drift"]["loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert set(found["samples"][0]) == {"prompt", "base", "model"}

    merge = ["merge", "--base", base, "--adapter", adapter, "--out", merged, "--no-verify"]
    subprocess.run([sys.executable, "-m", "trainer", *map(str, merge)], check=True, capture_output=True)
    again = json.loads(run("--model", merged, "--reference", base, *asked).stdout.splitlines()[-1])
    assert again["drift"]["kl"] == pytest.approx(found["drift"]["kl"], rel=0.05)
    assert again["samples"][0]["base"] == found["samples"][0]["base"]


def test_nothing_asked_and_what_cannot_be_read(files: Path) -> None:
    done = run("--model", files / "base.pth")
    assert done.returncode == 2
    assert "error[param_required]" in done.stderr
    done = run("--model", files / "base.pth", "--drift", files / "missing.txt")
    assert done.returncode == 2
    assert "error[data_not_found]" in done.stderr

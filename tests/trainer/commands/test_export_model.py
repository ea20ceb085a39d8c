"""A model in another format: the same tensors, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader

from trainer.models.checkpoint import open_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("模型 m") / "tiny model.pth"
    make_checkpoint(path, vocab=65536)
    return path


def tensors(path: Path) -> dict[str, torch.Tensor]:
    file = open_checkpoint(path)
    return {name: file.tensor(name) for name in file.infos}


def export(model: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trainer", "export-model", "--model", str(model), "--out", str(out)]
    return subprocess.run([*argv, *flags], capture_output=True, text=True, check=False)


def test_there_and_back_is_the_same(model: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "a b.safetensors", tmp_path / "again.pth"
    assert export(model, there).returncode == 0
    assert export(there, back).returncode == 0
    first, last = tensors(model), tensors(back)
    assert list(first) == list(last)
    assert all(
        torch.equal(first[name], last[name]) and first[name].dtype == last[name].dtype for name in first
    )


@pytest.mark.parametrize("dtype", ["fp16", "q8_0"])
def test_what_llama_cpp_reads(model: Path, tmp_path: Path, dtype: str) -> None:
    out = tmp_path / "m.gguf"
    ended = export(model, out, "--dtype", dtype, "--json")
    report = json.loads(next(line for line in reversed(ended.stdout.splitlines()) if line.startswith("{")))
    assert report["output_bytes"] == out.stat().st_size
    assert report["dtype"] == dtype
    assert len(GGUFReader(out).tensors) == report["tensors"]


def test_nothing_is_overwritten(model: Path, tmp_path: Path) -> None:
    taken = tmp_path / "m.safetensors"
    taken.write_bytes(b"mine")
    for source, out, code in (
        (model, taken, "merge_output_exists"),
        (model, tmp_path / "m.bin", "merge_format"),
        (tmp_path / "none.pth", tmp_path / "x.pth", "model_not_found"),
    ):
        ended = export(source, out)
        assert (ended.returncode, code in ended.stderr) == (2, True)
    assert taken.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]

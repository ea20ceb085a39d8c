from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.cli import main


def test_what_lies_in_folders_is_told_and_what_is_wrong_in_its_place(
    tmp_path: Path, make_checkpoint: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "模型 $(x)"
    (folder / "sub").mkdir(parents=True)
    make_checkpoint(folder / "b.pth")
    (folder / "broken.pth").write_bytes(b"no zip")
    (folder / "c.gguf").write_bytes(b"GGUF")
    (folder / ".merging-1.pth").write_bytes(b"half")
    (folder / "sub" / "readme.txt").write_text("x")
    assert main(["models", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["models"]
    assert [(Path(e["path"]).name, e["kind"]) for e in found] == [
        ("b.pth", "model"),
        ("broken.pth", "refused"),
        ("c.gguf", "gguf"),
    ]
    assert found[0]["generation"] == "7"
    assert found[0]["bytes"] == (folder / "b.pth").stat().st_size
    assert found[1]["args"]["path"] == str(folder / "broken.pth")
    assert main(["models", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "RWKV-7" in out
    assert "broken.pth" in out
    assert "for llama.cpp" in out


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(tmp_path / "none")]) == 2
    assert "error[model_not_found]" in capsys.readouterr().err

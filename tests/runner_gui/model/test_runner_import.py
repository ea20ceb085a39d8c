"""RWKV-Runner's config.json in the form: its numbers as text, its switches, and what cannot be taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner_gui.model.params_file import load_runner
from trainer.contract.errors import AppError


def config(folder: Path, training: dict[str, Any], data: dict[str, Any] | None = None) -> Path:
    path = folder / "config.json"
    path.write_text(
        json.dumps({"loraFinetuneParams": training, "dataProcessParams": data or {}}), encoding="utf-8"
    )
    return path


def test_what_it_was_set_to_is_taken(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base.pth").touch()
    training = {
        "baseModel": "base.pth", "loraLoad": "", "lrInit": "5e-5", "lrFinal": "1e-5", "adamEps": "1e-8",
        "ctxLen": 1024, "epochCount": "20", "loraR": 64, "loraAlpha": 192, "gradCp": True, "preFfn": False,
        "precision": "bf16",
    }  # fmt: skip
    found = load_runner(config(tmp_path, training))
    assert found.left_out == ()
    assert found.values["base_model"] == str(tmp_path / "models" / "base.pth")
    assert (found.values["lr_init"], found.values["epoch_count"]) == (5e-5, 20)
    assert isinstance(found.values["epoch_count"], int)
    assert found.values["lora_alpha"] == 192.0
    assert "pre_ffn" not in found.values


def test_what_cannot_be_taken_is_named(tmp_path: Path) -> None:
    training = {
        "baseModel": "gone.pth", "ctxLen": "many", "precision": "int3", "preFfn": True, "microBsz": 1.5,
        "loraR": 8,
    }  # fmt: skip
    found = load_runner(config(tmp_path, training))
    assert found.values == {"lora_r": 8}
    assert set(found.left_out) == {"base_model", "ctx_len", "precision", "pre_ffn", "micro_bsz"}


@pytest.mark.parametrize("text", ["", "[]", "{}", "{broken", '{"loraFinetuneParams": 3}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AppError) as error:
        load_runner(path)
    assert error.value.code == "runner_config_unreadable"

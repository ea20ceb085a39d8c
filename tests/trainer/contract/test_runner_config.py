from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.errors import InputError
from trainer.contract.params import check
from trainer.contract.runner_config import read_runner_config

# As RWKV-Runner writes it: some numbers are texts, choices that were not made are empty.
CONFIG: dict[str, Any] = {
    "settings": {"language": "zh"},
    "dataProcessParams": {"dataPath": "finetune/data/sample.jsonl", "vocabPath": "vocab.txt"},
    "loraFinetuneParams": {
        "baseModel": "RWKV-7.pth", "ctxLen": 2048, "epochSteps": 200, "epochCount": 20, "epochBegin": 0,
        "epochSave": 2, "microBsz": 1, "accumGradBatches": 8, "preFfn": False, "headQk": True,
        "lrInit": "5e-5", "lrFinal": "1e-5", "warmupSteps": 0, "beta1": 0.9, "beta2": 0.999,
        "adamEps": "1e-8", "devices": 1, "precision": "bf16", "gradCp": False, "loraR": 64, "loraAlpha": 192,
        "loraLoad": "", "loraDropout": 0.01,
    },
}  # fmt: skip


def test_everything_is_taken_over_and_checks(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8-sig")
    params, notes = check(read_runner_config(path))
    assert params is not None
    assert params.base_model == str(tmp_path / "models" / "RWKV-7.pth")
    assert params.data == str(tmp_path / "finetune" / "data" / "sample.jsonl")
    assert (params.lr_init, params.lr_final, params.adam_eps) == (5e-5, 1e-5, 1e-8)
    assert (params.ctx_len, params.epoch_save, params.accumulate_grad_batches) == (2048, 2, 8)
    assert (params.grad_cp, params.lora_alpha, params.lora_load) == (False, 192.0, None)
    assert [(note.code, note.args["name"]) for note in notes] == [("dead_switch", "head_qk")]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"loraFinetuneParams": []}', '{"loraFinetuneParams": {"a": 1}}']
)
def test_another_file_is_said_to_be_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError) as caught:
        read_runner_config(tmp_path / "config.json")
    assert caught.value.code == "runner_config_unreadable"

"""The training parameters of RWKV-Runner's `config.json`, under our names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.contract.errors import InputError

# Its key -> our parameter.
_DATA = {"dataPath": "data", "vocabPath": "vocab"}
_TRAINING = {
    "baseModel": "base_model", "loraLoad": "lora_load", "devices": "devices", "precision": "precision",
    "gradCp": "grad_cp", "ctxLen": "ctx_len", "epochSteps": "epoch_steps", "epochCount": "epoch_count",
    "epochBegin": "epoch_begin", "epochSave": "epoch_save", "microBsz": "micro_bsz",
    "accumGradBatches": "accumulate_grad_batches", "lrInit": "lr_init", "lrFinal": "lr_final",
    "warmupSteps": "warmup_steps", "beta1": "beta1", "beta2": "beta2", "adamEps": "adam_eps",
    "loraR": "lora_r", "loraAlpha": "lora_alpha", "loraDropout": "lora_dropout", "preFfn": "pre_ffn",
    "headQk": "head_qk",
}  # fmt: skip
# Where Runner looks, in its own folder, for what it keeps by name.
_FOLDERS = {"base_model": "models", "lora_load": "lora-models", "data": "", "vocab": ""}


def read_runner_config(path: Path) -> dict[str, Any]:
    """The parameters that the file names, to be checked like any others; empty texts are left out.

    Args:
        path: `config.json`; files that it names are looked for from its folder.

    Raises:
        InputError: `runner_config_unreadable`.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
        parts = [(raw.get("dataProcessParams", {}), _DATA), (raw.get("loraFinetuneParams", {}), _TRAINING)]
        found = {
            ours: part[theirs]
            for part, names in parts
            for theirs, ours in names.items()
            if part.get(theirs) not in (None, "")
        }
    except (OSError, ValueError, AttributeError) as error:
        raise InputError("runner_config_unreadable", path=str(path), reason=str(error)) from error
    if not found:
        raise InputError("runner_config_unreadable", path=str(path), reason="loraFinetuneParams")
    for name, folder in _FOLDERS.items():
        if name in found:
            found[name] = str(path.parent / folder / str(found[name]))
    return found

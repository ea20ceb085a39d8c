"""Recipes to start from: what the data is for, and how much time there is for it.

The numbers follow the RWKV fine-tuning tutorial: rates of at most 1e-4, alpha twice R, contexts no longer
than what the text needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trainer.contract.params import PARAMS

DEMO = "demo"
# What a text is for decides what of it counts, and how much of it has to be seen at once.
PURPOSES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "dialogue": {"loss_mask": "assistant", "ctx_len": 1024},
        "novel": {"loss_mask": "all", "ctx_len": 4096},
        "instructions": {"loss_mask": "assistant", "ctx_len": 1024, "lora_dropout": 0.0},
        "knowledge": {
            "loss_mask": "all",
            "ctx_len": 2048,
            "lora_parts": ("att", "ffn", "time", "ln", "time_lora"),
        },
    }
)
_DECAY = {"lr_schedule": "cosine", "epoch_steps": 0}  # an epoch is a full pass over the data
EFFORTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": {
            **_DECAY, "epoch_count": 1, "lora_r": 16, "lora_alpha": 32.0, "lr_init": 1e-4, "lr_final": 1e-5,
            "warmup_steps": 5,
        },
        "standard": {
            **_DECAY, "epoch_count": 3, "lora_r": 64, "lora_alpha": 128.0, "lr_init": 5e-5, "lr_final": 1e-5,
            "warmup_steps": 20, "val_fraction": 0.02,
        },
        "thorough": {
            **_DECAY, "epoch_count": 8, "lora_r": 128, "lora_alpha": 256.0, "lr_init": 5e-5,
            "lr_final": 5e-6, "warmup_steps": 50, "val_fraction": 0.05, "patience": 3,
        },
    }
)  # fmt: skip
# What belongs to this person's files and computer; a preset leaves it alone.
KEPT = frozenset(
    name
    for name, param in PARAMS.items()
    if (param.group in ("model", "device") and name != "grad_cp")
    or param.kind in ("path", "weighted_paths", "text")
)


def preset_values(name: str, demo: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a preset, `demo` or `<purpose>.<effort>`; those that it does not name have their
    defaults. An unknown name, perhaps of a later version, means the demo.
    """
    purpose, _, effort = name.partition(".")
    if purpose not in PURPOSES or effort not in EFFORTS:
        return dict(demo)
    chosen = {path: demo[path] for path in ("base_model", "data") if path in demo}
    return {**chosen, **EFFORTS[effort], **PURPOSES[purpose]}

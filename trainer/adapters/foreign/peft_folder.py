"""Folders of Hugging Face's peft: `adapter_config.json` beside `adapter_model.safetensors` (or `.bin`).

peft scales a module's update by alpha / r, or alpha / √r with rsLoRA, and both may differ from module to
module. Our files have one alpha: what differs from alpha / r is multiplied into B.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.adapters.lazy import LazyTensor, scaled
from trainer.adapters.leaves import split
from trainer.contract.errors import InputError

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
PREFIX = "base_model.model."
_KINDS = ("LORA", "MISS", "BONE")
# These begin with taking something away from the base's weights, and the file does not say what.
_CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")


class PeftConfig(BaseModel):
    """What of `adapter_config.json` says how the tensors act."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    peft_type: str
    lora_alpha: float | None = None
    use_rslora: bool = False
    alpha_pattern: dict[re.Pattern[str], float] = {}
    init_lora_weights: bool | str | None = True
    init_weights: bool | str | None = True


def read_config(folder: Path) -> PeftConfig | None:
    """The configuration in a folder, None if there is none.

    Raises:
        InputError: `adapter_unreadable`; `adapter_kind`, one with another rule than LoRA, DoRA or MiSS.
    """
    path = folder / CONFIG_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("adapter_unreadable", path=str(path), reason=error.strerror or str(error)) from error
    try:
        config = PeftConfig.model_validate_json(content)
    except ValidationError as error:
        reason = ".".join(map(str, error.errors()[0]["loc"])) or "JSON"
        raise InputError("adapter_unreadable", path=str(path), reason=reason) from error
    if config.peft_type not in _KINDS or config.init_weights == "mini":
        kind = f"{config.peft_type} mini" if config.init_weights == "mini" else config.peft_type
        raise InputError("adapter_kind", path=str(folder), kind=kind)
    start = str(config.init_lora_weights or "").lower()
    if config.peft_type == "LORA" and start.startswith(_CHANGED_BASES):
        raise InputError("adapter_kind", path=str(folder), kind=f"LoRA, init_lora_weights={start}")
    return config


def weights_in(folder: Path) -> Path:
    """The file of tensors in a folder.

    Raises:
        InputError: `adapter_not_adapter`.
    """
    for name in WEIGHTS_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise InputError("adapter_not_adapter", path=str(folder))


def with_one_alpha(tensors: Mapping[str, LazyTensor], config: PeftConfig) -> dict[str, LazyTensor]:
    """The tensors, scaled so that every module's update is lora_alpha / r · B A."""
    if config.lora_alpha is None:
        return dict(tensors)
    out = {}
    for name, tensor in tensors.items():
        parts = split(name)
        if parts is not None and parts[1] == "lora_B":
            r = tensor.info.shape[-1]
            alpha = _alpha_of(parts[0], config)
            scale = alpha / (math.sqrt(r) if config.use_rslora else r)
            tensor = scaled(tensor, scale * r / config.lora_alpha)
        out[name] = tensor
    return out


def _alpha_of(module: str, config: PeftConfig) -> float:
    """The module's own alpha: peft takes the first pattern that ends its name as a regular expression."""
    assert config.lora_alpha is not None
    for pattern, alpha in config.alpha_pattern.items():
        if re.match(rf"(.*\.)?({pattern.pattern})$", module):
            return alpha
    return config.lora_alpha

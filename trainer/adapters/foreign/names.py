"""How other tools call the tensors of `trainer.adapters.leaves`.

RWKV-LM-LoRA, RWKV-Runner and RWKV-PEFT write our names. RWKV-PEFT called MiSS `bone` and then `disha`.
Hugging Face's peft adds `.weight`, and the adapter's name where a whole state dict was saved; it calls
MiSS `miss_block`, before that `bone_block`. A block-wise one (Bat) has three dimensions; the two tools count
its blocks along different dimensions of the weight, so the name tells which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainer.models.checkpoint import TensorInfo

_PEFT_LORA = re.compile(r"(.*\.)(lora_[AB])(\.[^.]+)?\.weight$")
_PEFT_DORA = re.compile(r"(.*\.)lora_magnitude_vector(\.[^.]+)?(\.weight)?$")
_PEFT_MISS = re.compile(r"(.*\.)(miss_block|bone_block)(\.[^.]+)?$")
_FLAT_MISS = re.compile(r"(.*\.)(disha|bone)$")
_PEFT_SAVED = re.compile(r"(.*\.)modules_to_save\.(?:[^.]+\.)?(weight|bias)$")
_INIT = re.compile(r"(.*\.)init_(lora_[AB])$")


def our_name(name: str, info: TensorInfo) -> str:
    """The name that we give a tensor of another tool; the same where it has ours, or none that we know."""
    if match := _PEFT_LORA.match(name):
        return match[1] + match[2]
    if match := _PEFT_DORA.match(name):
        return f"{match[1]}lora_M"
    if match := _PEFT_MISS.match(name):
        return match[1] + ("disha" if len(info.shape) == 2 else "bat_out")
    if match := _FLAT_MISS.match(name):
        return match[1] + ("disha" if len(info.shape) == 2 else "bat_in")
    if match := _PEFT_SAVED.match(name):
        return match[1] + match[2]
    return name


def is_of_peft(name: str) -> bool:
    """Whether only Hugging Face's peft calls a tensor so."""
    return any(pattern.match(name) for pattern in (_PEFT_LORA, _PEFT_DORA, _PEFT_MISS, _PEFT_SAVED))


def is_of_miss(name: str) -> bool:
    """Whether RWKV-PEFT calls a tensor of MiSS so."""
    return _FLAT_MISS.match(name) is not None


def init_names(infos: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Of a file that PiSSA starts from: leaf -> the name of its start there."""
    return {match[1] + match[2]: name for name in infos if (match := _INIT.match(name))}

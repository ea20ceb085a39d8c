"""Adapters for other tools: a flat .pth for RWKV's own mergers, or a folder of Hugging Face's peft.

Mergers of RWKV-Runner and RWKV-LM-LoRA know LoRA only and take a whole number as alpha, RWKV-PEFT's knows
MiSS (`disha`) too. peft keeps what was trained in full as whole modules, so bare vectors cannot go there.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainer.adapters.files import Adapter, write_adapter
from trainer.adapters.foreign.peft_folder import CONFIG_NAME, PREFIX, WEIGHTS_NAMES
from trainer.adapters.leaves import Kind, by_module, kind_of, sizes, split
from trainer.contract.errors import InputError
from trainer.contract.files import atomic_write, disk_error, fsync_folder

Format = Literal["slim", "peft"]
_FLAT_NAMES = {"bat_in": "disha"}
_PEFT_NAMES = {
    "lora_A": "lora_A.weight", "lora_B": "lora_B.weight", "lora_M": "lora_magnitude_vector",
    "disha": "miss_block", "bat_out": "miss_block",
}  # fmt: skip
# What a format has no words for.
_UNKNOWN: dict[Format, frozenset[Kind]] = {
    "slim": frozenset({"dora", "bat_out"}),
    "peft": frozenset({"bat_in"}),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        alpha: that has to be given to the merger; None where nothing is scaled.
    """

    path: Path
    format: Format
    alpha: float | None
    r: int | None


def export_adapter(
    adapter: Adapter, output: Path, *, alpha: float | None = None, dtype: torch.dtype | None = None
) -> Exported:
    """Write an adapter for other tools: `output` ends in .pth, or is a folder to be made for peft.

    Args:
        alpha: for an adapter that does not tell its own. dtype: None keeps the file's.

    Raises:
        InputError: `adapter_alpha_unknown`, `merge_output_exists`; `adapter_export`, not to be written so.
        AppError: `disk_full`, `not_writable`.
    """
    if output.exists():
        raise InputError("merge_output_exists", path=str(output))
    kind = _only_kind(adapter)
    scale_by = adapter.alpha if adapter.alpha is not None else alpha
    if adapter.is_scaled and scale_by is None:
        raise InputError("adapter_alpha_unknown", path=str(adapter.path), r=adapter.rank)
    format_: Format = "slim" if output.suffix.lower() == ".pth" else "peft"
    if kind in _UNKNOWN[format_]:
        raise _impossible(adapter, format_, kind or "")
    tensors = dict(adapter.tensors)
    if format_ == "slim" and adapter.is_scaled:
        scale_by = _with_whole_alpha(tensors, scale_by or 0.0)
    if dtype is not None:
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    told = scale_by if adapter.is_scaled else None
    if format_ == "slim":
        _write_slim(adapter, tensors, output, told)
    else:
        _write_peft(adapter, tensors, output, told, kind)
    return Exported(output, format_, told, adapter.rank)


def _only_kind(adapter: Adapter) -> Kind | None:
    kinds: set[Kind | None] = {kind_of(leaves) for leaves in by_module(adapter.tensors).values()}
    if len(kinds) > 1:
        raise InputError(
            "adapter_export", path=str(adapter.path), format="—", what=", ".join(sorted(map(str, kinds)))
        )
    return next(iter(kinds), None)


def _impossible(adapter: Adapter, format_: Format, what: str) -> InputError:
    return InputError("adapter_export", path=str(adapter.path), format=format_, what=what)


def _with_whole_alpha(tensors: dict[str, Tensor], alpha: float) -> float:
    """Move what keeps alpha from being a whole number into B."""
    whole = float(max(1, round(alpha)))
    if whole != alpha:
        for name, tensor in tensors.items():
            if name.endswith(".lora_B"):
                tensors[name] = tensor.float() * (alpha / whole)
    return whole


def _write_slim(adapter: Adapter, tensors: dict[str, Tensor], output: Path, alpha: float | None) -> None:
    if adapter.meta is not None:
        write_adapter(output, tensors, adapter.meta.model_copy(update={"alpha": alpha}))
        return
    content = {}
    for name, tensor in tensors.items():
        parts = split(name)
        flat = name if parts is None else f"{parts[0]}.{_FLAT_NAMES.get(parts[1], parts[1])}"
        content[flat] = tensor.contiguous()
    with atomic_write(output) as file:
        torch.save(content, file)


def _write_peft(
    adapter: Adapter, tensors: Mapping[str, Tensor], output: Path, alpha: float | None, kind: Kind | None
) -> None:
    named: dict[str, Tensor] = {}
    whole_modules: set[str] = set()
    for name, tensor in tensors.items():
        parts = split(name)
        if parts is not None:
            named[f"{PREFIX}{parts[0]}.{_PEFT_NAMES[parts[1]]}"] = tensor.contiguous()
        elif name.endswith((".weight", ".bias")):
            whole_modules.add(name.rpartition(".")[0])
            named[PREFIX + name] = tensor.contiguous()
        else:
            raise _impossible(adapter, "peft", name)
    if kind is None:
        raise _impossible(adapter, "peft", "full")
    config = _config(adapter, alpha, kind) | {"modules_to_save": sorted(whole_modules) or None}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".exporting-", dir=output.parent))
        try:
            save_file(named, part / WEIGHTS_NAMES[0], metadata={"format": "pt"})
            (part / CONFIG_NAME).write_text(
                json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8"
            )
            part.chmod(0o755)
            part.rename(output)
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(part)
        fsync_folder(output.parent)
    except OSError as error:
        raise disk_error(error, output) from error


def _config(adapter: Adapter, alpha: float | None, kind: Kind) -> dict[str, Any]:
    """`adapter_config.json`; modules are named in full, so that nothing else is adapted."""
    ranks = {}
    for module, leaves in by_module(adapter.tensors).items():
        found = sizes({leaf: tuple(adapter.tensors[f"{module}.{leaf}"].shape) for leaf in leaves})
        ranks[module] = (found or {})["r"]
    ((r, _),) = Counter(ranks.values()).most_common(1)
    others = {module: rank for module, rank in ranks.items() if rank != r}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": None,  # whatever class the model has
        "base_model_name_or_path": "" if adapter.meta is None else adapter.meta.base_name,
        "bias": "none",
        "inference_mode": True,
        "r": r,
        "target_modules": list(ranks),
    }
    if kind in ("lora", "dora"):
        return config | {
            "lora_alpha": alpha, "lora_dropout": 0.0, "fan_in_fan_out": False, "init_lora_weights": True,
            "use_dora": kind == "dora", "use_rslora": False, "rank_pattern": others, "alpha_pattern": {},
        }  # fmt: skip
    if others:
        raise _impossible(adapter, "peft", f"r {r}, {next(iter(others.values()))}")
    return config | {
        "peft_type": "MISS", "miss_dropout": 0.0, "mini_r": 1,
        "init_weights": "bat" if kind == "bat_out" else True,
    }  # fmt: skip

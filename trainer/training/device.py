"""Where a run computes and in which precision, said before it starts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from trainer.contract.errors import InputError, Problem
from trainer.contract.params import PRECISIONS, TrainParams
from trainer.training.machine import PAYS
from trainer.training.probe import bf16_speedup

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32, "fp32": torch.float32}


@dataclass(frozen=True, slots=True)
class Device:
    """The resolved device.

    Attributes:
        kind: "cuda" or "cpu". dtype: of activations and the frozen base. tf32: for fp32 projections.
        notes: what was asked for and is not done, as warnings.
    """

    kind: str
    dtype: torch.dtype
    tf32: bool
    notes: tuple[Problem, ...]

    @property
    def needs_scaler(self) -> bool:
        return self.dtype == torch.float16


def resolve_device(params: TrainParams) -> Device:
    """Pick the device and the precision that it can do.

    Raises:
        InputError: `device_unavailable`, `precision_unavailable`.
    """
    available = torch.cuda.is_available()
    if params.device == "cuda" and not available:
        raise InputError("device_unavailable", device="cuda")
    if available and params.device != "cpu":
        if params.devices > torch.cuda.device_count():
            raise InputError("device_unavailable", device=f"cuda × {params.devices}")
        return _cuda(params.precision)
    if params.precision not in PRECISIONS["cpu"]:
        raise _unavailable(params.precision, "cpu", PRECISIONS["cpu"])
    notes: tuple[Problem, ...] = ()
    if params.precision == "bf16" and bf16_speedup() > PAYS:
        return Device("cpu", torch.bfloat16, False, ())
    if params.precision != "fp32":
        notes = (_fallback(params.precision, "fp32", "cpu"),)
    return Device("cpu", torch.float32, False, notes)


def _cuda(precision: str) -> Device:
    if precision == "bf16" and torch.cuda.get_device_capability() < (8, 0):
        return Device("cuda", torch.float16, False, (_fallback("bf16", "fp16", "compute capability < 8.0"),))
    if precision == "tf32" and torch.cuda.get_device_capability() < (8, 0):
        raise _unavailable(precision, "compute capability < 8.0", ("fp16", "fp32"))
    return Device("cuda", _DTYPES[precision], precision == "tf32", ())


def use_precision(device: Device) -> None:
    """Let a card's fp32 products run in TF32, or not. The recurrences' own kernels decide for themselves."""
    if device.kind == "cuda":
        torch.set_float32_matmul_precision("high" if device.tf32 else "highest")


def _unavailable(precision: str, device: str, offered: Sequence[str]) -> InputError:
    return InputError("precision_unavailable", asked=precision, device=device, offered=", ".join(offered))


def _fallback(asked: str, used: str, reason: str) -> Problem:
    return Problem("precision_fallback", {"asked": asked, "used": used, "reason": reason})


def describe_devices(kind: str) -> list[dict[str, object]]:
    """Name, memory in bytes and compute capability of each device, for the hello event."""
    if kind == "cuda":
        out: list[dict[str, object]] = []
        for index in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(index)
            out.append({"name": p.name, "memory_bytes": p.total_memory, "cc": f"{p.major}.{p.minor}"})
        return out
    return [
        {"name": "cpu", "memory_bytes": psutil.virtual_memory().total, "threads": torch.get_num_threads()}
    ]


def peak_bytes(kind: str) -> int | None:
    """The most that this process has held: on the GPU, or resident on the CPU; None where nothing tells."""
    if kind == "cuda":
        return torch.cuda.max_memory_reserved()
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    # Kilobytes, but on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_bytes(kind: str) -> int:
    """Memory that this process holds now: on the GPU, or resident on the CPU."""
    if kind == "cuda":
        return torch.cuda.memory_reserved()
    return psutil.Process().memory_info().rss

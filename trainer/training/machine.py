"""What a computer has to train on, asked without torch: memory, graphics cards, how fast it multiplies."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from dataclasses import dataclass

import numpy as np
import psutil

from trainer.contract.folders import cache_folder
from trainer.contract.params import TrainParams
from trainer.kernels.native.build import cpu_flags

# bf16 products have to be that much faster on a CPU to make up for their lost digits.
PAYS = 1.5
# Where it was never measured: what a processor that has units for bf16 makes of them.
_BF16_UNITS, _BF16_SPEEDUP = ("amx_bf16", "avx512_bf16"), 2.0
_NVIDIA_SMI = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")
_TIMEOUT_S = 10.0
# Dense 16-bit flops a second of the makers' data sheets, the first name that occurs in a card's name.
_PEAK_FLOPS = {
    "H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
    "L4": 121e12, "V100": 125e12, "T4": 65e12,
}  # fmt: skip
# What of it a step makes use of: of the CPU's products measured, of a card's peak assumed.
_CPU_SHARE, _GPU_SHARE = 0.8, 0.35
_PRODUCT = (512, 512, 1536)


@dataclass(frozen=True, slots=True)
class Target:
    """One device to train on.

    Attributes:
        kind: "cpu" or "cuda". memory_bytes, available_bytes: in all and free now.
        flops: that a step gets out of it a second; None where that cannot be told.
    """

    kind: str
    name: str
    memory_bytes: int
    available_bytes: int
    flops: float | None


def target(params: TrainParams) -> Target:
    """What a run with these parameters would compute on."""
    cards = [] if params.device == "cpu" else graphics_cards()
    if cards:
        return min(cards[: params.devices], key=lambda card: card.available_bytes)
    memory = psutil.virtual_memory()
    rate = _product_flops() * _CPU_SHARE
    if computes_in_bytes(params, "cpu") == 2:
        rate *= known_bf16_speedup()
    return Target("cpu", "CPU", memory.total, memory.available, rate)


def graphics_cards() -> list[Target]:
    """NVIDIA's cards as their driver tells of them; none where it does not answer."""
    program = next(filter(None, map(shutil.which, _NVIDIA_SMI)), None)
    if program is None:
        return []
    query = "--query-gpu=name,memory.total,memory.free"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_TIMEOUT_S, check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return [card for line in done.stdout.splitlines() if (card := _card(line)) is not None]


def _card(line: str) -> Target | None:
    name, *numbers = (part.strip() for part in line.split(","))
    with contextlib.suppress(ValueError):
        total, free = (int(number) << 20 for number in numbers)
        peak = next((flops for known, flops in _PEAK_FLOPS.items() if known in name), None)
        return Target("cuda", name, total, free, None if peak is None else peak * _GPU_SHARE)
    return None


def computes_in_bytes(params: TrainParams, kind: str) -> int:
    """Bytes of an activation, and of a weight of the base."""
    if kind == "cpu":
        return 2 if params.precision == "bf16" and known_bf16_speedup() > PAYS else 4
    return 2 if params.precision in ("bf16", "fp16") else 4


def known_bf16_speedup() -> float:
    """What `trainer.training.probe` has found of this processor, or what its units promise."""
    flags = cpu_flags()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((cache_folder() / "probe.json").read_text(encoding="utf-8"))
        if known["key"]["cpu"] == flags:
            return float(known["bf16_speedup"])
    return _BF16_SPEEDUP if any(unit in flags for unit in _BF16_UNITS) else 0.1


def _product_flops() -> float:
    """Of a large fp32 product, the best of a few: others may be at work too."""
    M, K, N = _PRODUCT
    a, b = np.ones((M, K), np.float32), np.ones((K, N), np.float32)
    best_s = float("inf")
    for _ in range(4):
        started_s = time.perf_counter()
        np.matmul(a, b)
        best_s = min(best_s, time.perf_counter() - started_s)
    return 2 * M * K * N / best_s

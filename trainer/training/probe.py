"""What this processor is quick at: measured in some 50 ms, once, and remembered."""

from __future__ import annotations

import contextlib
import json
import statistics
import time

import torch

from trainer.contract.errors import AppError
from trainer.contract.files import write_json
from trainer.contract.folders import cache_folder
from trainer.kernels.native.build import cpu_flags

# A product of a small model's step, large enough to fill the units that multiply.
_SHAPE = (128, 512, 512)
_ROUNDS = 3


def bf16_speedup() -> float:
    """How many times faster this CPU multiplies in bf16 than in fp32; 0.1 where it has no units for it."""
    key = {"torch": torch.__version__, "cpu": cpu_flags()}
    note = cache_folder() / "probe.json"
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known.get("key") == key:
            return float(known["bf16_speedup"])
    speedup = _measured()
    # A cache that can't be written costs time the next time, nothing else.
    with contextlib.suppress(AppError):
        write_json(note, {"key": key, "bf16_speedup": speedup})
    return speedup


def _measured() -> float:
    M, K, N = _SHAPE
    pairs = [(torch.ones(M, K, dtype=t), torch.ones(K, N, dtype=t)) for t in (torch.float32, torch.bfloat16)]
    ratios = []
    for _ in range(1 + _ROUNDS):
        seconds = []
        for a, b in pairs:
            started_s = time.perf_counter()
            torch.mm(a, b)
            seconds.append(time.perf_counter() - started_s)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios[1:])  # the first products also load what they run on

"""Timing by turns: on a machine that others use too, only what is measured side by side can be compared."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

# The kernel's own count for the process; that of `resource` begins with what the parent used before it.
PEAK = """
import pathlib, psutil
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak_kib = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
print(peak_kib[0] * 1024 if peak_kib else psutil.Process().memory_info().rss)
"""


clock = time.perf_counter
"""What times are read from; `use_processor_time` changes it."""


def use_processor_time() -> None:
    """Count the processor time of this process instead: what others take is not in it.

    For products of several threads it is the sum of all of them, so compare ratios only.
    """
    global clock
    clock = time.process_time


class Times(dict[str, list[float]]):
    """Seconds of each case in each round."""

    def median_s(self, case: str) -> float:
        return statistics.median(self[case])

    def speedup(self, case: str, baseline: str) -> float:
        """How many times faster than the baseline: the median over the rounds."""
        return statistics.median(b / a for a, b in zip(self[case], self[baseline], strict=True))


def by_turns(cases: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> Times:
    """Run every case once a round, in an order that is reversed from round to round."""
    times = Times({name: [] for name in cases})
    for index in range(-warm, rounds):
        for name in list(cases)[:: -1 if index % 2 else 1]:
            started_s = clock()
            cases[name]()
            _wait()
            if index >= 0:
                times[name].append(clock() - started_s)
    return times


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def product(
    M: int, K: int, V: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Callable[[], object]:
    """A matrix product of 2·M·K·V flops; what it reaches is the limit of everything made of products."""
    a, b = torch.randn(M, K, dtype=dtype, device=device), torch.randn(K, V, dtype=dtype, device=device)
    return lambda: a @ b


def in_child(code: str, *arguments: str) -> tuple[dict[str, Any], float, int]:
    """Run Python code in a process of its own.

    Args:
        code: prints one JSON object last. arguments: its `sys.argv[1:]`.

    Returns:
        The object, the seconds from start to end, and the most resident memory in bytes.
    """
    started_s = time.perf_counter()
    wrapped = f"{code}\n{PEAK}"
    done = subprocess.run(
        [sys.executable, "-c", wrapped, *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    *_, result, peak = done.stdout.strip().splitlines()
    return json.loads(result), time.perf_counter() - started_s, int(peak)

"""What a benchmark found: a table for people, one JSON object for programs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import psutil

PACKAGES = (
    "torch",
    "pytorch-lightning",
    "numpy",
    "rwkv",
    "rwkvtune",
    "rwkv7-hf",
    "peft",
    "fla-core",
    "PySide6-Essentials",
)
COLUMNS = ("case", "value", "unit", "baseline", "ratio", "limit")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number.

    Attributes:
        baseline: what `ratio` compares with, measured in the same run, by turns; above 1 is better than it.
        limit_share: how much of what the machine can do, 1 being all; the limit is named in the docs.
    """

    case: str
    value: float
    unit: str
    baseline: str | None = None
    ratio: float | None = None
    limit_share: float | None = None


def machine() -> dict[str, object]:
    """The machine, and how busy others keep it."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": _gpu_name(),
        "system": platform.platform(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _gpu_name() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def show(name: str, rows: Iterable[Row], as_json: bool) -> None:
    """Print the table and, if asked, the JSON object behind it."""
    rows = list(rows)
    lines = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    found = {
        "name": name,
        "machine": machine(),
        "versions": versions(),
        "rows": [asdict(row) for row in rows],
    }
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    print(f"\n{found['machine']}\n{found['versions']}")


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.case, _number(row.value), row.unit, row.baseline or "",
        "" if row.ratio is None else f"{row.ratio:.2f}×",
        "" if row.limit_share is None else f"{row.limit_share:.0%}",
    )  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

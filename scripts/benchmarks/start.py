"""From the command to the first step of a run on the CPU, imports included."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from scripts.benchmarks.models import rwkv7_spec
from scripts.benchmarks.report import Row
from trainer.contract.events import decode
from trainer.models.initial import initialise
from trainer.models.rwkv7 import RWKV7

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "assets" / "demo" / "sample.jsonl"
IMPORTS = "import torch, pytorch_lightning"


def rows(args: argparse.Namespace) -> Iterator[Row]:
    size = (6, 256) if args.quick else (12, 768)
    base = args.work / "base.pth"
    model = initialise(RWKV7(rwkv7_spec(*size)), seed=0)
    torch.save({name: param.detach().bfloat16() for name, param in model.named_parameters()}, base)
    del model
    title = f"L{size[0]} D{size[1]} ({base.stat().st_size / 1e9:.2f} GB)"
    runs, imports_s = [], []
    for index in range(args.rounds or (2 if args.quick else 4)):
        imports_s.append(_imports_s())
        runs.append(_run(base, args.work, f"run{index}"))
    imported_s = statistics.median(imports_s)
    again = {name: statistics.median(run[name] for run in runs[1:]) for name in runs[0]}
    yield Row("importing torch and Lightning", imported_s, "s")
    yield Row(f"{title}, the very first run: first step done", runs[0]["step"], "s")
    for name, label in (
        ("hello", "everything checked"),
        ("training", "first step begins"),
        ("step", "first step done"),
    ):
        yield Row(f"{title}, {label}", again[name], "s", "imports", again[name] / imported_s)


def _imports_s() -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)
    return time.perf_counter() - started_s


def _run(base: Path, work: Path, name: str) -> dict[str, float]:
    """Seconds until `hello`, until the phase `training`, and until the first step is done."""
    command = [
        sys.executable, "-m", "trainer", "train", "--base-model", str(base), "--data", str(SAMPLE),
        "--run-dir", str(work / name), "--ctx-len", "512", "--epoch-steps", "1", "--epoch-count", "1",
        "--accumulate-grad-batches", "1", "--lora-r", "32", "--device", "cpu", "--precision", "fp32",
    ]  # fmt: skip
    found: dict[str, float] = {}
    env = {**os.environ, "RUNNER_CACHE": str(work / "cache"), "PYTHONPATH": str(ROOT)}
    started_s = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=ROOT, env=env
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = decode(line)
            if event is not None:
                mark = event["name"] if event.t == "phase" else event.t
                found.setdefault(mark, time.perf_counter() - started_s)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return {mark: found[mark] for mark in ("hello", "training", "step")}

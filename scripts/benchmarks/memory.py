"""The estimate of memory against the peaks of real runs on the CPU, in processes of their own."""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from scripts.benchmarks.report import Row
from trainer.models.initial import initialise
from trainer.models.layouts import ModelSpec, expected_shapes
from trainer.models.rwkv7 import RWKV7

ROOT = Path(__file__).resolve().parents[2]
VOCAB_SIZE = 65536
STEPS = 4
# generation, layers, width, flags; a heap that is kept tight is asked for by `TIGHT`.
TIGHT = {"MALLOC_MMAP_THRESHOLD_": "262144"}
COMMON = ("--ctx-len=1024", "--lora-r=32", "--lora-dropout=0", "--no-grad-cp", "--precision=fp32")
CASES: dict[str, tuple[str, int, int, tuple[str, ...]]] = {
    "7 LoRA": ("7", 6, 256, ()),
    "7 LoRA, bf16": ("7", 6, 256, ("--precision=bf16",)),
    "7 LoRA, dropout, 2 rows": ("7", 6, 256, ("--lora-dropout=0.1", "--micro-bsz=2")),
    "7 DoRA, 4 rows": ("7", 6, 256, ("--method=dora", "--micro-bsz=4")),
    "7 PiSSA, 4 rows": ("7", 6, 256, ("--method=pissa", "--micro-bsz=4")),
    "7 MiSS, 4 rows": ("7", 6, 256, ("--method=miss", "--micro-bsz=4")),
    "7 state, 4 rows": ("7", 6, 256, ("--method=state", "--micro-bsz=4")),
    "7 full": ("7", 6, 256, ("--method=full",)),
    "7 LoRA, emb and head": ("7", 6, 256, ("--lora-parts=att,ffn,time,ln,emb,head",)),
    "7 LoRA, nf4": ("7", 12, 512, ("--quant=nf4",)),
    "7 LoRA, int8": ("7", 12, 512, ("--quant=int8",)),
    "7 LoRA, wider": ("7", 12, 512, ()),
    "6 LoRA": ("6", 6, 256, ()),
    "5.2 LoRA": ("5.2", 6, 256, ()),
    "4 LoRA": ("4", 6, 256, ()),
}


def rows(args: argparse.Namespace) -> Iterator[Row]:
    data = args.work / "data.jsonl"
    _write_data(data)
    for name, (generation, n_layer, width, flags) in list(CASES.items())[: 2 if args.quick else None]:
        base = args.work / f"{generation}-{n_layer}-{width}.pth"
        if not base.exists():
            _write_model(base, generation, n_layer, width)
        asked = [f"--base-model={base}", "--device=cpu", *COMMON, *flags]
        estimate = _estimate(asked)
        for heap, env, expected in (
            ("", {}, estimate["total_bytes"]),
            (", tight heap", TIGHT, estimate["least_bytes"]),
        ):
            peak = _peak_bytes([*asked, f"--data={data}", f"--run-dir={args.work / (name + heap)}"], env)
            yield Row(f"{name}{heap}", peak / 1e6, "MB", "estimate", expected / peak)


def _estimate(flags: list[str]) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "estimate", "--json", *flags],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def _peak_bytes(flags: list[str], env: dict[str, str]) -> int:
    command = [sys.executable, "-m", "trainer", "train", f"--epoch-steps={STEPS}", "--epoch-count=1"]
    process = subprocess.Popen(
        [*command, "--accumulate-grad-batches=1", *flags],
        cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{flags} ended with status {process.returncode}")
    return used.ru_maxrss * 1024


def _write_data(path: Path) -> None:
    """Rows of about the context's length."""
    words = ["the", "sea", "light", "keeper", "sings", "of", "rain", "and", "wind", "over", "old", "stone"]
    draw = random.Random(1)
    texts = (" ".join(draw.choice(words) for _ in range(draw.randint(200, 900))) for _ in range(600))
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")


def _write_model(path: Path, generation: str, n_layer: int, width: int) -> None:
    spec = _spec(generation, n_layer, width)
    torch.manual_seed(0)
    if generation == "7":
        tensors = {name: p.detach() for name, p in initialise(RWKV7(spec), seed=0).named_parameters()}
    else:
        tensors = {name: torch.randn(shape) * 0.02 for name, shape in expected_shapes(spec).items()}
    torch.save({name: tensor.bfloat16() for name, tensor in tensors.items()}, path)


def _spec(generation: str, n_layer: int, width: int) -> ModelSpec:
    ranks = {"7": {"w": 64, "a": 64, "v": 32, "g": 128}, "6": {"mix": 32, "decay": 64}}.get(generation, {})
    heads = 0 if generation == "4" else width // 64
    return ModelSpec(
        generation, n_layer, width, width, 4 * width if generation in "47" else 7 * width // 64 * 32,
        VOCAB_SIZE, 64 if heads else 0, heads, ranks, layer0_v=True,
        bonus_key="time_faaaa" if generation[0] == "5" else None,
    )  # fmt: skip

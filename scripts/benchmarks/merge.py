"""Merging a LoRA of all projections, against loading, adding and saving with torch in bf16.

Each until its bytes are on the disk; ours reads them back from there too.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from scripts.benchmarks import timing
from scripts.benchmarks.models import RANK, rwkv7_spec
from scripts.benchmarks.report import Row
from scripts.benchmarks.timing import Times, in_child
from trainer.models.layouts import PROJECTIONS
from trainer.models.rwkv7 import RWKV7

ROOT = Path(__file__).resolve().parents[2]
OURS = """
import json, sys, time
sys.path[:0] = [sys.argv[1]]
from trainer.adapters.merge import merge
clock = getattr(time, sys.argv[-1]); started_s = clock()
report = merge(*sys.argv[2:5], alpha=32.0, verify=False)
print(json.dumps({"changed": report.changed, "seconds": clock() - started_s}))
"""
PLAIN = """
import json, os, sys, time, torch
root, base, lora, out = sys.argv[1:5]
clock = getattr(time, sys.argv[-1]); started_s = clock()
weights, leaves, changed = torch.load(base), torch.load(lora), 0
for name in list(leaves):
    if name.endswith("lora_A"):
        key, A, B = name.replace("lora_A", "weight"), leaves[name], leaves[name.replace("lora_A", "lora_B")]
        weights[key] += (B.to(weights[key].dtype) @ A.to(weights[key].dtype)) * (32 / A.shape[0])
        changed += 1
torch.save(weights, out)
with open(out, "rb+") as file: os.fsync(file.fileno())
print(json.dumps({"changed": changed, "seconds": clock() - started_s}))
"""
COPY = """
import json, os, shutil, sys, time
root, base, lora, out = sys.argv[1:5]
clock = getattr(time, sys.argv[-1]); started_s = clock()
shutil.copyfile(base, out)
with open(out, "rb+") as file: os.fsync(file.fileno())
print(json.dumps({"changed": 0, "seconds": clock() - started_s}))
"""


def rows(args: argparse.Namespace) -> Iterator[Row]:
    work: Path = args.work
    size = (4, 1024) if args.quick else (16, 2048)
    base, lora = work / "base.pth", work / "lora.pth"
    _write(base, lora, *size)
    codes = {"copy": COPY, "ours": OURS, "plain": PLAIN}
    times = Times({name: [] for name in codes})
    peak: dict[str, int] = {}
    changed = {}
    for index in range(args.rounds or (1 if args.quick else 3)):
        for name in list(codes)[:: -1 if index % 2 else 1]:
            out = work / f"{name}.pth"
            out.unlink(missing_ok=True)
            found, _, peak[name] = in_child(
                codes[name], str(ROOT), str(base), str(lora), str(out), timing.clock.__name__
            )
            times[name].append(found["seconds"])
            changed[name] = found["changed"]
    if changed["ours"] != changed["plain"]:
        raise RuntimeError(f"not the same tensors were changed: {changed}")
    _same(work / "ours.pth", work / "plain.pth")
    title = f"a model of {base.stat().st_size / 1e9:.2f} GB"
    yield Row(f"{title}, copied to the disk", times.median_s("copy"), "s")
    yield Row(f"{title}, torch.load + add + torch.save", times.median_s("plain"), "s")
    yield Row(
        f"{title}, ours",
        times.median_s("ours"),
        "s",
        "torch",
        times.speedup("ours", "plain"),
        1 / times.speedup("copy", "ours"),
    )
    yield Row("peak memory, torch", peak["plain"] / 1e6, "MB")
    yield Row("peak memory, ours", peak["ours"] / 1e6, "MB", "torch", peak["plain"] / peak["ours"])
    shutil.rmtree(work, ignore_errors=True)


def _write(base: Path, lora: Path, n_layer: int, width: int) -> None:
    with torch.device("meta"):
        model = RWKV7(rwkv7_spec(n_layer, width))
    shapes = {name: param.shape for name, param in model.named_parameters()}
    torch.save({name: torch.randn(shape).bfloat16() for name, shape in shapes.items()}, base)
    leaves = {}
    for layer in range(n_layer):
        for part, names in PROJECTIONS.items():
            for name in names:
                key = f"blocks.{layer}.{part}.{name}"
                if (shape := shapes.get(f"{key}.weight")) is not None:
                    leaves[f"{key}.lora_A"] = torch.randn(RANK, shape[1]) * 0.02
                    leaves[f"{key}.lora_B"] = torch.randn(shape[0], RANK) * 0.02
    torch.save(leaves, lora)


def _same(ours: Path, plain: Path) -> None:
    """Both merged models agree but for how often they round to bf16."""
    one, other = (torch.load(path, mmap=True) for path in (ours, plain))
    for name, tensor in one.items():
        if not torch.allclose(tensor.float(), other[name].float(), rtol=2e-2, atol=2e-2):
            raise RuntimeError(f"{name} differs")

"""Updates on a GPU in bf16: tokens a second, peak memory, share of what its matrix products reach."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.benchmarks.models import (
    Step,
    lora_model,
    our_step,
    product_flops,
    rwkv7_spec,
    tokens_and_targets,
    updates,
)
from scripts.benchmarks.report import Row
from scripts.benchmarks.timing import by_turns, product
from trainer.models.skeleton import RWKV

SIZES = {"0.1B": (12, 768), "0.4B": (24, 1024), "1.5B": (24, 2048), "2.9B": (32, 2560)}
PLAIN = "full logits, full checkpoint"


def rows(args: argparse.Namespace) -> Iterator[Row]:
    if not torch.cuda.is_available():
        raise SystemExit("bench gpu: there is no GPU here")
    T = 1024 if args.quick else 4096
    for size, shape in list(SIZES.items())[: 1 if args.quick else None]:
        spec = rwkv7_spec(*shape)
        model = lora_model(spec, "cuda", torch.bfloat16)
        for B in (1, 8):
            batch = tokens_and_targets(B, T, device="cuda")
            cases = {"ours": our_step(model), PLAIN: _plain_step(model)}
            peak = {name: _peak_bytes(step, batch) for name, step in cases.items()}
            fits: dict[str, Callable[[], object]] = {
                name: (lambda step=cases[name], batch=batch: step(*batch))
                for name, found in peak.items()
                if found is not None
            }
            times = by_turns({"product": product(8192, 4096, 8192, torch.bfloat16, "cuda"), **fits}, rounds=9)
            limit = 2 * 8192 * 4096 * 8192 / times.median_s("product")
            for name in fits:
                seconds = times.median_s(name)
                share = product_flops(spec, B * T, B * T) / seconds / limit
                ratio = times.speedup(name, PLAIN) if name == "ours" and PLAIN in fits else None
                title = f"{size} B{B} T{T} {name}"
                yield Row(title, B * T / seconds, "tokens/s", PLAIN if ratio else None, ratio, share)
                yield Row(f"{title}, peak memory", (peak[name] or 0) / 1e9, "GB")
            for name in peak.keys() - fits.keys():
                yield Row(f"{size} B{B} T{T} {name}: does not fit", float("nan"), "")
        del model
        torch.cuda.empty_cache()


def _plain_step(model: RWKV) -> Step:
    """The same model with every block computed twice and all logits at once, as other trainers run it."""

    def loss_of(tokens: Tensor, targets: Tensor) -> Tensor:
        model.recomputed = "full"
        try:
            hidden, _ = model(tokens)
        finally:
            model.recomputed = "none"
        return F.cross_entropy(model.head(hidden).flatten(0, 1).float(), targets.flatten())

    return updates(model, loss_of)


def _peak_bytes(step: Step, batch: tuple[Tensor, Tensor]) -> int | None:
    """None if it does not fit."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        step(*batch)
    except torch.cuda.OutOfMemoryError:
        return None
    return torch.cuda.max_memory_allocated()

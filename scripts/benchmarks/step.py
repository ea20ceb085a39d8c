"""One update of RWKV-7 with LoRA, against other trainers and against the plain form; where its time goes."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from scripts.benchmarks import peers
from scripts.benchmarks.models import (
    Step,
    lora_model,
    naive_step,
    our_step,
    product_flops,
    rwkv7_spec,
    tokens_and_targets,
)
from scripts.benchmarks.report import Row
from scripts.benchmarks.timing import Times, by_turns, in_child, product

T = 512
SIZES = {"L6 D256": (6, 256), "L12 D768": (12, 768)}
PRODUCTS = {
    "aten::mm",
    "aten::addmm",
    "aten::addmm_",
    "aten::bmm",
    "aten::baddbmm",
    "aten::_addmm_activation",
}
LENGTHS = (512, 2048, 8192)
CHAT_TOKENS, CHAT_CTX = 175, 1024


def rows(args: argparse.Namespace) -> Iterator[Row]:
    peers.look_in(args.peers)
    for size in list(SIZES)[:1] if args.quick else SIZES:
        yield from _speed(size, T // 2 if args.quick else T, args.rounds or (1 if args.quick else 7))
    yield lightning_share(*SIZES["L6 D256"], steps=10 if args.quick else 60)
    yield from _memory("L6 D256" if args.quick else "L12 D768", T // 2 if args.quick else T)
    yield packing_row()
    if not args.quick:
        yield from _growth("L6 D256", args.rounds or 3)


def _speed(size: str, T: int, rounds: int) -> Iterator[Row]:
    spec = rwkv7_spec(*SIZES[size])
    model = lora_model(spec)
    everything, quarter = tokens_and_targets(1, T), tokens_and_targets(1, T, 0.25)
    ours = our_step(model)
    cases: dict[str, Callable[[], object]] = {
        "product": product(T, spec.n_embd, 4 * spec.n_embd),
        "ours": lambda: ours(*everything),
        "ours, 25 % unmasked": lambda: ours(*quarter),
    }
    with_others: dict[str, Step] = {"naive, full logits": naive_step(model), **peers.available(spec)}
    cases |= {name: (lambda step=step: step(*everything)) for name, step in with_others.items()}
    times = by_turns(cases, rounds)
    yield from _speed_rows(size, T, times, list(with_others), product_flops(spec, T, T))
    yield _product_share(size, ours, everything)


def _speed_rows(size: str, T: int, times: Times, others: Sequence[str], flops: float) -> Iterator[Row]:
    C = SIZES[size][1]
    limit_s = flops * times.median_s("product") / (8 * T * C * C)
    for other in others:
        yield Row(f"{size} {other}", T / times.median_s(other), "tokens/s")
        ratio = times.speedup("ours", other)
        share = limit_s / times.median_s("ours")
        yield Row(f"{size} ours", T / times.median_s("ours"), "tokens/s", other, ratio, share)
    masked = "ours, 25 % unmasked"
    yield Row(
        f"{size} {masked}", T / times.median_s(masked), "tokens/s", "ours", times.speedup(masked, "ours")
    )


def _product_share(size: str, step: Step, batch: tuple[Tensor, Tensor]) -> Row:
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step(*batch)
    # What a function of ours or of autograd does besides the operations that it calls counts as its own.
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    share = sum(us for key, us in spent.items() if key in PRODUCTS) / sum(spent.values())
    return Row(f"{size} in matrix products", 100 * share, "% of a step", limit_share=share)


class _Windows:
    """The same window of one micro-batch, `steps` times, as Lightning's loop reads them."""

    def __init__(self, window: object, steps: int) -> None:
        self._window, self._steps = window, steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[object]:
        return iter([self._window] * self._steps)


def lightning_share(n_layer: int, width: int, steps: int) -> Row:
    """What Lightning's loop adds to the trainer's own steps: the time between the end of one and the next."""
    import logging
    import warnings

    import pytorch_lightning as pl

    from trainer.contract.params import TrainParams
    from trainer.training.batches import MicroBatch
    from trainer.training.device import Device
    from trainer.training.module import TrainModule
    from trainer.training.schedule import StepPlan

    params = TrainParams(
        base_model="-",
        data="-",
        ctx_len=T,
        epoch_steps=steps,
        epoch_count=1,
        micro_bsz=1,
        accumulate_grad_batches=1,
    )
    module = TrainModule(
        lora_model(rwkv7_spec(n_layer, width)), params, StepPlan.make(params, steps, 1),
        Device("cpu", torch.float32, False, ()), 0,
    )  # fmt: skip
    tokens, targets = tokens_and_targets(1, T)
    resets = torch.zeros(1, T // 16, dtype=torch.bool)
    window = [MicroBatch(tokens, targets, resets, T, T)]
    edges_s: list[tuple[float, float]] = []
    inner = module.training_step

    def timed(*args: object) -> None:
        started_s = time.perf_counter()
        inner(*args)  # type: ignore[arg-type]
        edges_s.append((started_s, time.perf_counter()))

    module.training_step = timed  # type: ignore[method-assign]
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(module, train_dataloaders=_Windows(window, steps))  # fmt: skip
    between = sorted(start - end for (_, end), (start, _) in itertools.pairwise(edges_s))
    inside = sorted(end - start for start, end in edges_s)
    share = between[len(between) // 2] / (between[len(between) // 2] + inside[len(inside) // 2])
    return Row(f"L{n_layer} D{width} Lightning's loop", 100 * share, "% of a step")


MEMORY = """
import json, sys
sys.path[:0] = [sys.argv[1]]
import torch
torch.set_num_threads(1)
from scripts.benchmarks import models
spec = models.rwkv7_spec(int(sys.argv[2]), int(sys.argv[3]))
model = models.lora_model(spec)
step = {"ours": models.our_step, "naive": models.naive_step}[sys.argv[4]](model)
batch = models.tokens_and_targets(1, int(sys.argv[5]))
step(*batch), step(*batch)
print(json.dumps({}))
"""


def _memory(size: str, T: int) -> Iterator[Row]:
    root = str(Path(__file__).resolve().parents[2])
    peak = {}
    for name in ("naive", "ours"):
        _, _, peak[name] = in_child(MEMORY, root, *map(str, SIZES[size]), name, str(T))
    yield Row(f"{size} peak memory, naive, full logits", peak["naive"] / 1e9, "GB")
    yield Row(
        f"{size} peak memory, ours",
        peak["ours"] / 1e9,
        "GB",
        "naive, full logits",
        peak["naive"] / peak["ours"],
    )


def _growth(size: str, rounds: int) -> Iterator[Row]:
    """Tokens a second must not fall as rows grow longer."""
    model = lora_model(rwkv7_spec(*SIZES[size]))
    step = our_step(model)
    batches = {length: tokens_and_targets(1, length) for length in LENGTHS}
    times = by_turns({str(n): (lambda batch=batch: step(*batch)) for n, batch in batches.items()}, rounds)
    first = LENGTHS[0]
    for length in LENGTHS[1:]:
        ratio = times.speedup(str(length), str(first)) * length / first
        rate = length / times.median_s(str(length))
        yield Row(f"{size} ours, T {length}", rate, "tokens/s", f"T {first}", ratio)


def packing_row() -> Row:
    """An epoch of short chats, packed, against every one padded to the context length."""
    from trainer.data.packing import ALIGN, best_fit

    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(CHAT_TOKENS) - 0.32, 0.8, 20_000), 16, CHAT_CTX).astype(np.int64)
    units = -(-lengths // ALIGN)
    rows_used = int(best_fit(units, CHAT_CTX // ALIGN).max()) + 1
    title = f"an epoch of chats (mean {lengths.mean():.0f} tokens), packed to {CHAT_CTX}"
    tokens = rows_used * CHAT_CTX
    used = float(lengths.sum() / tokens)
    return Row(title, tokens / 1e6, "M tokens", "every chat padded", len(lengths) / rows_used, used)

"""The recurrences alone, forward and backward, for one layer of 0.1B."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch

from scripts.benchmarks.report import Row
from scripts.benchmarks.timing import by_turns, product
from trainer.kernels.dispatch import OPERATIONS, max_error
from trainer.kernels.native.build import NativeUnavailableError

HEAD_SIZE = 64
# Of an element of a head's state and a token, forward and backward, with the states that are computed again.
FLOPS = {"RWKV-5.2": 19, "RWKV-6": 19, "RWKV-7": 33}
GENERATIONS = {"RWKV-4": "wkv4", "RWKV-5.2": "wkv56", "RWKV-6": "wkv56", "RWKV-7": "wkv7"}


def rows(args: argparse.Namespace) -> Iterator[Row]:
    T, H, rounds = (256, 4, 3) if args.quick else (512, 12, 9)
    cases: dict[str, Callable[[], object]] = {"product": product(T, 768, 768)}
    for generation, operation in GENERATIONS.items():
        for form, op in OPERATIONS[operation].backends.items():
            try:
                max_error(operation, op)
            except NativeUnavailableError as error:
                print(f"{generation} {form} is left out: {error}")
                continue
            cases[f"{generation} {form}"] = _case(generation, operation, op, T, H)
    times = by_turns(cases, args.rounds or rounds)
    rate = 2 * T * 768 * 768 / times.median_s("product")
    for name in cases:
        if name == "product":
            continue
        generation, form = name.split()
        baseline = {"native": f"{generation} chunked", "chunked": f"{generation} reference"}.get(form)
        limit_s = FLOPS.get(generation, 0) * HEAD_SIZE**2 * T * H / rate
        share = limit_s / times.median_s(name) if form == "native" and limit_s else None
        ratio = None if baseline is None else times.speedup(name, baseline)
        yield Row(name, times.median_s(name) / (T * H) * 1e6, "µs/token·head", baseline, ratio, share)
    for generation in list(GENERATIONS)[:-1]:
        case, baseline = f"{generation} native", "RWKV-7 native"
        if case in times:
            yield Row(
                f"{case}, a token",
                times.median_s(case) / (T * H) * 1e6,
                "µs/token·head",
                baseline,
                times.speedup(case, baseline),
            )


def _case(generation: str, operation: str, op: Callable[..., tuple], T: int, H: int) -> Callable[[], object]:
    inputs, _ = OPERATIONS[operation].sample(1, T, H, HEAD_SIZE)
    if generation == "RWKV-5.2":
        inputs[1] = inputs[1][0, 0]  # a decay that is the same for every token
    leaves = [x.float().requires_grad_() for x in inputs]

    def run() -> None:
        y, _ = op(*leaves)
        y.backward(torch.ones_like(y))

    return run

"""`merge`: base + adapters → a model that every RWKV tool reads."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from trainer.commands.arguments import positive_number
from trainer.commands.output import EXIT_DONE, EXIT_STOPPED, open_output
from trainer.contract.errors import Problem
from trainer.contract.events import EventWriter

if TYPE_CHECKING:
    from trainer.adapters.merge import MergeReport

MAX_STRENGTH = 1.5
_PROGRESS_EVERY_S = 0.1


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("merge", help="merge adapters into their base model")
    parser.add_argument("--base", type=Path, required=True, help="base model, .pth or .safetensors")
    parser.add_argument(
        "--adapter", type=Path, required=True, action="append", metavar="A",
        help="adapter of any RWKV tool, or a folder of HF peft; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, help="merged model .pth, .safetensors or .gguf; must not exist"
    )
    parser.add_argument(
        "--strength", type=_strength, action="append", metavar="S",
        help="0 to 1.5, 1 is what was trained; once for all adapters, or once for each",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=positive_number, action="append", metavar="X",
        help="LoRA alpha, for adapters that don't tell it; once for all, or once for each",
    )  # fmt: skip
    parser.add_argument(
        "--layers", type=layer_numbers, metavar="L", help="change these layers only, such as 0-11 or 0,4-7"
    )
    parser.add_argument(
        "--dtype", choices=("bf16", "fp16", "fp32", "q8_0"),
        help="element type of the result (default: the base's; fp16 in a .gguf, which alone can be q8_0)",
    )  # fmt: skip
    parser.add_argument(
        "--pissa-init", type=Path, metavar="F",
        help="init_pissa.pth of RWKV-PEFT, if it does not lie beside the adapter",
    )  # fmt: skip
    parser.add_argument(
        "--onto-quantised", action="store_true",
        help="add an adapter of a quantised base to those weights, not to the base's own",
    )  # fmt: skip
    parser.add_argument("--no-verify", action="store_true", help="don't compare logits with the package rwkv")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.set_defaults(run=run, parser=parser)


def layer_numbers(text: str) -> frozenset[int]:
    """An argparse type: layers from 0 on, like "0-11" or "0,4-7"."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise argparse.ArgumentTypeError(f"must be layers such as 0-11 or 0,4-7, not {text}")
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def _strength(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MAX_STRENGTH:
        raise argparse.ArgumentTypeError(f"must lie between 0 and {MAX_STRENGTH}, not {text}")
    return value


def _for_each(args: argparse.Namespace, name: str, default: Any) -> list[Any]:
    """A flag's values, one for each adapter."""
    given, count = getattr(args, name) or [default], len(args.adapter)
    if len(given) not in (1, count):
        args.parser.error(f"--{name} is given {len(given)} times for {count} adapters")
    return given * count if len(given) == 1 else given


def run(args: argparse.Namespace) -> int:
    """Merge, with progress; exit status 3 if stopped, which leaves nothing behind."""
    strengths, alphas = _for_each(args, "strength", 1.0), _for_each(args, "alpha", None)
    output = open_output()
    stop = StopSignals()
    reports = TellingReports(EventWriter(None, output.feed))
    from trainer.adapters.merge import Addition, MergeStoppedError, merge

    additions = [
        Addition(adapter, strength, alpha, args.pissa_init)
        for adapter, strength, alpha in zip(args.adapter, strengths, alphas, strict=True)
    ]
    try:
        report = merge(
            args.base, additions, args.out, layers=args.layers, dtype=args.dtype,
            onto_quantised=args.onto_quantised, verify=not args.no_verify, on_progress=reports.progress,
            on_warning=reports.warning, should_stop=lambda: stop.asked,
        )  # fmt: skip
    except MergeStoppedError:
        print("stopped; nothing was written", file=sys.stderr)
        return EXIT_STOPPED
    print(summary(report), file=sys.stderr)
    if args.json:
        output.result(as_json(report))
    return EXIT_DONE


def as_json(report: MergeReport) -> dict[str, Any]:
    """The report in JSON types."""
    return {
        **dataclasses.asdict(report),
        "output": str(report.output),
        "adapters": [problem.as_json() for problem in report.adapters],
        "warnings": [problem.as_json() for problem in report.warnings],
    }


def summary(report: MergeReport) -> str:
    """The report in lines for a person."""
    lines = [
        f"{report.output} ({report.output_bytes / 1e6:.1f} MB, {report.dtype}) in {report.seconds:.1f} s",
        f"{report.changed} of {report.tensors} tensors changed, by at most {report.max_change:.3g}; "
        f"{report.lost_share:.2%} of the update was lost to rounding",
        "every tensor was read back and is as it was written",
    ]
    if report.alpha is not None:
        lines.insert(1, f"{report.lora_matrices} projections adapted, alpha {report.alpha:g}")
    if report.logits is not None:
        both = report.logits.base_and_adapter
        from_both = "" if both is None else f", from base + adapter by {both:.1e}"
        lines.append(
            f"logits differ from the package rwkv by {report.logits.package:.1e}{from_both} (relative)"
        )
    return "\n".join(lines)


class TellingReports:
    """Turns the merge's calls into events, a phase once and progress a few times a second."""

    def __init__(self, events: EventWriter) -> None:
        self._events = events
        self._phase = ""
        self._last_s = 0.0

    def progress(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase:
            self._phase, self._last_s = phase, 0.0
            self._events.write("phase", name=phase)
        now_s = time.monotonic()
        if done >= total or now_s - self._last_s >= _PROGRESS_EVERY_S:
            self._last_s = now_s
            self._events.write("progress", what=phase, done=done, total=total, unit="bytes")

    def warning(self, problem: Problem) -> None:
        self._events.write("warning", code=problem.code, args=dict(problem.args))


class StopSignals:
    """Turns Ctrl+C or SIGTERM into a request to stop in good order."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

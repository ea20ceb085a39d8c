"""`convert`: text to a binidx."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from trainer.commands.output import EXIT_DONE, EXIT_STOPPED, open_output
from trainer.contract.errors import Problem
from trainer.contract.events import EventWriter

MAX_LISTED = 50


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("convert", help="turn text into training data (binidx)")
    parser.add_argument(
        "--data", type=Path, required=True, help=".jsonl file, .txt file, folder of .txt files, binidx prefix"
    )
    parser.add_argument("--vocab", type=Path, help="World vocabulary or tokenizer.json (default: World)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="PREFIX", help="writes PREFIX.bin, .idx, …"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.set_defaults(run=run)


class _StopSignals:
    """Turns the first Ctrl+C or SIGTERM into a request to stop in good order."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def run(args: argparse.Namespace) -> int:
    """Convert, with progress; exit status 3 if stopped, which leaves nothing behind."""
    output = open_output()
    from trainer.data.binidx import BinidxReader, binidx_prefix
    from trainer.data.convert import ConversionStoppedError, convert
    from trainer.data.tokenizers import load_tokenizer

    started_s = time.monotonic()
    events = EventWriter(None, output.feed)
    problems: list[dict[str, Any]] = []

    def on_problem(problem: Problem) -> None:
        if len(problems) < MAX_LISTED:
            problems.append(problem.as_json())
        events.write("warning", code=problem.code, args=dict(problem.args))

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        events.write("progress", what="convert", done=done_bytes, total=total_bytes, unit="bytes")

    if (prefix := binidx_prefix(args.data)) is not None:
        reader = BinidxReader(prefix)
        result = _result(prefix, reader.documents, reader.tokens, 0, reader.token_range()[1])
        result["already_converted"] = True
    else:
        stop = _StopSignals()
        tokenizer = load_tokenizer(args.vocab)
        try:
            meta = convert(
                args.data, args.out, tokenizer,
                on_progress=on_progress, on_problem=on_problem, should_stop=lambda: stop.asked,
            )  # fmt: skip
        except ConversionStoppedError:
            print("stopped; nothing was written", file=sys.stderr)
            return EXIT_STOPPED
        result = _result(args.out, meta.documents, meta.tokens, meta.skipped, meta.max_token)
        result["already_converted"] = False
    result.update(problems=problems, seconds=round(time.monotonic() - started_s, 3))
    print(_summary(result), file=sys.stderr)
    if args.json:
        output.result(result)
    return EXIT_DONE


def _result(prefix: Path, documents: int, tokens: int, skipped: int, max_token: int) -> dict[str, Any]:
    return {
        "prefix": str(prefix),
        "documents": documents,
        "tokens": tokens,
        "skipped": skipped,
        "max_token": max_token,
    }


def _summary(result: dict[str, Any]) -> str:
    size = f"{result['documents']:,} documents, {result['tokens']:,} tokens"
    if result["already_converted"]:
        return f"{result['prefix']} is already converted: {size}"
    left_out = f", {result['skipped']:,} left out" if result["skipped"] else ""
    return f"{result['prefix']}: {size}{left_out}, in {result['seconds']:.1f} s"

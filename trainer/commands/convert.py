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
from trainer.commands.reports import Reports
from trainer.contract.events import EventWriter
from trainer.contract.params import PARAMS


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("convert", help="turn text into training data (binidx)")
    parser.add_argument(
        "--data", type=Path, required=True, help="file of texts or dialogues, folder of them, binidx prefix"
    )
    parser.add_argument("--vocab", type=Path, help="World vocabulary or tokenizer.json (default: World)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="PREFIX", help="writes PREFIX.bin, .idx, …")
    where.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="converts into a cache, unless the same data is there already",
    )
    parser.add_argument(
        "--vocab-size", type=int, metavar="N", help="rows of the model's embedding: chooses the vocabulary"
    )
    add_render_flags(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.set_defaults(run=run)


def add_render_flags(parser: argparse.ArgumentParser) -> None:
    """How records become documents, as `train` has it."""
    parser.add_argument("--data-columns", metavar="FIELD=COLUMN,…", help="which column of a table holds what")
    parser.add_argument(
        "--think",
        choices=PARAMS["think"].choices,
        default="keep",
        help="reasoning in answers (default: keep)",
    )


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
    from trainer.data.binidx import binidx_prefix

    started_s = time.monotonic()
    reports = Reports(EventWriter(None, output.feed))
    if (prefix := binidx_prefix(args.data)) is not None:
        result = _existing(prefix, args.vocab_size)
    elif args.cache is not None:
        result = _into_cache(args, reports)
    else:
        found = _to_prefix(args, reports)
        if found is None:
            print("stopped; nothing was written", file=sys.stderr)
            return EXIT_STOPPED
        result = found
    result.update(problems=reports.problems, seconds=round(time.monotonic() - started_s, 3))
    print(_summary(result), file=sys.stderr)
    if args.json:
        output.result(result)
    return EXIT_DONE


def _existing(prefix: Path, vocab_size: int | None) -> dict[str, Any]:
    from trainer.data.binidx import BinidxReader

    reader = BinidxReader(prefix)
    if vocab_size is not None:
        reader.check_vocabulary(vocab_size)
    result = _result(prefix, reader.documents, reader.tokens, 0, reader.token_range()[1])
    return {**result, "already_converted": True}


def _into_cache(args: argparse.Namespace, reports: Reports) -> dict[str, Any]:
    """What training with this cache would convert, so that it finds it done. A kill leaves nothing behind."""
    from trainer.data.binidx import BinidxReader
    from trainer.data.cache import ensure_converted
    from trainer.data.records import RenderOptions

    prefix = ensure_converted(
        args.data,
        args.vocab,
        args.vocab_size,
        args.cache,
        reports.progress,
        reports.problem,
        RenderOptions.make(args.data_columns, args.think),
    )
    reader = BinidxReader(prefix)
    skipped = reader.meta.skipped if reader.meta is not None else 0
    result = _result(prefix, reader.documents, reader.tokens, skipped, reader.token_range()[1])
    return {**result, "already_converted": not reports.progressed}


def _to_prefix(args: argparse.Namespace, reports: Reports) -> dict[str, Any] | None:
    from trainer.data.convert import ConversionStoppedError, convert
    from trainer.data.records import RenderOptions
    from trainer.data.tokenizers import load_tokenizer

    stop = _StopSignals()
    tokenizer = load_tokenizer(args.vocab, args.vocab_size)
    try:
        meta = convert(
            args.data,
            args.out,
            tokenizer,
            on_progress=reports.progress,
            on_problem=reports.problem,
            should_stop=lambda: stop.asked,
            options=RenderOptions.make(args.data_columns, args.think),
        )
    except ConversionStoppedError:
        return None
    result = _result(args.out, meta.documents, meta.tokens, meta.skipped, meta.max_token)
    return {**result, "already_converted": False}


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

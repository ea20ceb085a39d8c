"""`export-model`: a model of any format that is read → .pth, .safetensors or .gguf."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from trainer.commands.merge import StopSignals, TellingReports, as_json
from trainer.commands.output import EXIT_DONE, EXIT_STOPPED, open_output
from trainer.contract.events import EventWriter


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("export-model", help="write a model in another format")
    parser.add_argument("--model", type=Path, required=True, help="a base or merged model")
    parser.add_argument(
        "--out", type=Path, required=True, help="NAME.pth, .safetensors or .gguf; must not exist"
    )
    parser.add_argument(
        "--dtype", choices=("bf16", "fp16", "fp32", "q8_0"),
        help="element type (default: the model's; fp16 in a .gguf, which alone can be q8_0)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it, with progress; exit status 3 if stopped, which leaves nothing behind."""
    output = open_output()
    stop = StopSignals()
    reports = TellingReports(EventWriter(None, output.feed))
    from trainer.adapters.merge import MergeStoppedError, merge

    try:
        # Nothing is added to it, and every tensor is read back and compared: logits could tell no more.
        report = merge(
            args.model, [], args.out, dtype=args.dtype, verify=False,
            on_progress=reports.progress, should_stop=lambda: stop.asked,
        )  # fmt: skip
    except MergeStoppedError:
        print("stopped; nothing was written", file=sys.stderr)
        return EXIT_STOPPED
    size = f"{report.output_bytes / 1e6:.1f} MB, {report.dtype}"
    print(f"{report.output} ({size}) in {report.seconds:.1f} s; every tensor was read back", file=sys.stderr)
    if args.json:
        output.result(as_json(report))
    return EXIT_DONE

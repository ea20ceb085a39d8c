"""`export-adapter`: an adapter of any tool → a flat .pth for RWKV mergers, or a folder of HF peft."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from trainer.commands.arguments import positive_number
from trainer.commands.output import EXIT_DONE, open_output

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("export-adapter", help="write an adapter for other tools")
    parser.add_argument("--adapter", type=Path, required=True, help="adapter of any RWKV tool")
    parser.add_argument(
        "--out", type=Path, required=True,
        help="NAME.pth for mergers of RWKV-Runner, RWKV-LM-LoRA and RWKV-PEFT, or a folder for HF peft",
    )  # fmt: skip
    parser.add_argument("--alpha", type=positive_number, help="LoRA alpha, if the adapter doesn't tell it")
    parser.add_argument("--dtype", choices=tuple(_DTYPES), help="element type (default: the adapter's)")
    parser.add_argument("--pissa-init", type=Path, metavar="F", help="init_pissa.pth of RWKV-PEFT")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it, and say with which alpha it has to be merged."""
    output = open_output()
    import torch

    from trainer.adapters.export import export_adapter
    from trainer.adapters.files import open_adapter, recognised

    opened = open_adapter(args.adapter, args.pissa_init)
    known = recognised(opened)
    print(known.sentence(), file=sys.stderr)
    dtype = None if args.dtype is None else getattr(torch, _DTYPES[args.dtype])
    exported = export_adapter(opened.load(), args.out, alpha=args.alpha, dtype=dtype)
    scale = "" if exported.alpha is None else f"; merge it with alpha {exported.alpha:g} (R {exported.r})"
    print(f"{exported.path} ({exported.format}){scale}", file=sys.stderr)
    if args.json:
        facts = dataclasses.asdict(exported) | {"path": str(exported.path)}
        output.result(facts | {"recognised": known.as_json()})
    return EXIT_DONE

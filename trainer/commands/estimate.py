"""`estimate`: the memory that a run on the CPU will need, without torch and before anything is loaded."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import psutil

from trainer.commands.output import EXIT_BAD_INPUT, EXIT_DONE
from trainer.commands.train import add_flag, given_values
from trainer.contract.errors import ParameterError, Problem
from trainer.contract.params import PARAMS, checked
from trainer.models.checkpoint import open_checkpoint
from trainer.models.spec import detect_file
from trainer.training.estimate import estimate_memory

# What the estimate has been measured for.
KNOWN = {"method": ("lora", "full"), "quant": ("none",), "device": ("auto", "cpu")}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("estimate", help="say how much memory a run on the CPU needs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for param in PARAMS.values():
        add_flag(parser, param)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what a run needs; the status is 2 where this computer has not that much free."""
    # The data decides nothing here, so it need not be there.
    params = checked({"data": "-", **given_values(args)})
    unknown = [
        Problem("param_conflict", {"with": "estimate"}, name)
        for name, known in KNOWN.items()
        if getattr(params, name) not in known
    ]
    if unknown:
        raise ParameterError(unknown)
    file = open_checkpoint(Path(params.base_model))
    spec = detect_file(file)
    found = estimate_memory(file.infos, spec, params)
    available = psutil.virtual_memory().available
    result = {
        "process_bytes": found.process_bytes,
        "weights_bytes": found.weights_bytes,
        "trained_bytes": found.trained_bytes,
        "activations_bytes": found.activations_bytes,
        "total_bytes": found.total_bytes,
        "available_bytes": available,
        "tokens": found.tokens,
        "largest_tokens": found.largest_tokens(available),
    }
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            label, _, unit = name.rpartition("_")
            shown = f"{value / 1e9:.2f} GB" if unit == "bytes" else f"{value}"
            sys.stdout.write(f"{(label if unit == 'bytes' else name).replace('_', ' '):<16}{shown}\n")
    return EXIT_DONE if found.total_bytes <= available else EXIT_BAD_INPUT

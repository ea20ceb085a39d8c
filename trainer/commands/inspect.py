"""`inspect`: what a model or an adapter is, of any tool, without loading it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.output import EXIT_DONE
from trainer.contract.errors import InputError, Problem

if TYPE_CHECKING:
    from trainer.adapters.files import AdapterFile


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("inspect", help="say what a model or adapter file is")
    parser.add_argument("file", type=Path, metavar="FILE", help=".pth, .safetensors, or a folder of HF peft")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the file is; a file that is neither model nor adapter is refused by what it is."""
    found = describe(args.file)
    if args.json:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return EXIT_DONE
    if (known := found.pop("recognised", None)) is not None:
        sys.stdout.write(Problem(known["code"], known["args"]).sentence() + "\n")
    for name, value in found.items():
        if value is not None and value != {}:
            sys.stdout.write(f"{name.replace('_', ' '):<16}{_readable(value)}\n")
    return EXIT_DONE


def describe(path: Path) -> dict[str, Any]:
    """What a file is, as JSON types; `kind` is "model" or "adapter".

    Raises:
        InputError: the file can't be read, or is neither.
    """
    from trainer.adapters.files import describe_adapter, open_adapter
    from trainer.adapters.foreign.peft_folder import CONFIG_NAME
    from trainer.models.checkpoint import open_checkpoint
    from trainer.models.spec import detect_file

    if path.is_dir() or path.name == CONFIG_NAME:
        return _describe_adapter(open_adapter(path))
    file = open_checkpoint(path)
    try:
        spec = detect_file(file)
    except InputError as error:
        is_state = error.code == "model_variant" and error.problem.args["variant"] == "state"
        if error.code != "model_is_adapter" and not is_state:
            raise
        return _describe_adapter(describe_adapter(file))
    return {
        "kind": "model",
        "path": str(path),
        **dataclasses.asdict(spec),
        "dtypes": list(spec.dtypes),
        "bytes": file.nbytes,
    }


def _describe_adapter(opened: AdapterFile) -> dict[str, Any]:
    from trainer.adapters.files import recognised

    meta = opened.meta
    return {
        "kind": "adapter",
        "path": str(opened.path),
        "writer": opened.writer,
        "recognised": recognised(opened).as_json(),
        "method": opened.method,
        "r": opened.rank,
        "alpha": opened.alpha,
        "quant": None if meta is None else meta.quant,
        "parts": None if meta is None else list(meta.parts),
        "generation": None if meta is None else meta.generation,
        "n_layer": None if meta is None else meta.n_layer,
        "n_embd": None if meta is None else meta.n_embd,
        "base": None if meta is None else meta.base_name,
        "step": None if meta is None else meta.step,
        "loss": meta.loss if meta is not None and math.isfinite(meta.loss or 0.0) else None,
        "tensors": len(opened.tensors),
        "parameters": sum(info.numel for info in opened.infos.values()),
        "dtypes": sorted({info.dtype for info in opened.infos.values()}),
        "bytes": opened.nbytes,
    }


def _readable(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)

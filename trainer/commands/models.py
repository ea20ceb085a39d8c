"""`models`: what model and adapter files lie in some folders."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.commands.inspect import describe
from trainer.commands.output import EXIT_DONE
from trainer.contract.errors import AppError, InputError, Problem

GGUF = ".gguf"  # what merges and exports write for llama.cpp; nothing here reads it
SUFFIXES = (".pth", ".safetensors", GGUF)
DEPTH = 4  # folders below the one that is named: a run's checkpoints lie three down


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("models", help="list the model and adapter files in folders")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line a file; a file that is neither model nor adapter says why in its place."""
    for folder in args.folders:
        if not folder.is_dir():
            raise InputError("model_not_found", path=str(folder))
    found = [_entry(path) for folder in args.folders for path in model_files(folder)]
    if args.json:
        print(json.dumps({"models": found}, ensure_ascii=False, allow_nan=False))
        return EXIT_DONE
    for entry in found:
        sys.stdout.write(f"{entry['path']}\n    {_line(entry)}\n")
    return EXIT_DONE


def model_files(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Files of models in a folder and those below it, by name. What starts with a dot is half written."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # one folder that cannot be read hides only itself
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False) and depth:
            yield from model_files(Path(entry.path), depth - 1)
        elif entry.name.endswith(SUFFIXES) and entry.is_file():
            yield Path(entry.path)


def _entry(path: Path) -> dict[str, Any]:
    try:
        described = {"kind": "gguf", "path": str(path)} if path.suffix == GGUF else describe(path)
    except AppError as error:
        described = {"kind": "refused", "path": str(path), "code": error.code, "args": error.problem.args}
    stat = path.stat()
    return described | {"bytes": stat.st_size, "modified_ts": stat.st_mtime}


def _line(entry: dict[str, Any]) -> str:
    size = f"{entry['bytes'] / 1e6:,.1f} MB"
    if entry["kind"] == "refused":
        return f"{size}  {Problem(entry['code'], entry['args']).sentence()}"
    if entry["kind"] == "gguf":
        return f"{size}  for llama.cpp"
    if entry["kind"] == "model":
        return f"{size}  RWKV-{entry['generation']}, {entry['parameters']:,} parameters, {entry['dtype']}"
    return f"{size}  adapter, r {entry['r']}, of {entry['base'] or '?'}"

"""`rwkv-trainer eval`: mean next-token loss of a model, with or without an adapter, on data."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from trainer.commands.arguments import positive_number
from trainer.commands.output import EXIT_DONE, open_output
from trainer.commands.train import add_flag, default_cache
from trainer.contract.errors import InputError
from trainer.contract.events import EventWriter
from trainer.contract.params import PARAMS, checked

# How records become documents, as in training.
RENDERING = ("data_columns", "think")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("eval", help="mean next-token loss on data")
    parser.add_argument("--model", required=True, type=Path, metavar="M")
    parser.add_argument("--adapter", type=Path, metavar="A")
    parser.add_argument("--alpha", type=positive_number, metavar="X", help="for adapters without metadata")
    parser.add_argument("--data", required=True, type=Path, metavar="D")
    parser.add_argument("--vocab", type=Path, metavar="V")
    parser.add_argument("--loss-mask", choices=("all", "assistant"), default="all")
    for name in RENDERING:
        add_flag(parser, PARAMS[name])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    given = {name: getattr(args, name) for name in RENDERING if hasattr(args, name)}
    params = checked({"base_model": str(args.model), "data": str(args.data), **given})
    output = open_output()
    events = EventWriter(None, output.feed)
    from trainer.adapters.attach import attach_adapter
    from trainer.adapters.files import check_fits, read_adapter
    from trainer.data.binidx import BinidxReader
    from trainer.data.cache import ensure_converted
    from trainer.data.records import RenderOptions
    from trainer.models.checkpoint import open_checkpoint
    from trainer.models.loading import load_model
    from trainer.training.evaluation import evaluate, tokens_to_read

    events.write("phase", name="loading_model")
    model = load_model(args.model)
    if args.adapter is not None:
        adapter = read_adapter(args.adapter)
        check_fits(adapter, open_checkpoint(args.model).infos, args.model)
        attach_adapter(model, adapter, alpha=args.alpha)
    events.write("phase", name="reading_data")
    prefix = ensure_converted(
        args.data,
        args.vocab,
        model.spec.vocab_size,
        default_cache(),
        lambda done, total: events.write("progress", what="convert", done=done, total=total, unit="bytes"),
        lambda problem: events.write("warning", code=problem.code, args=dict(problem.args)),
        RenderOptions.make(params.data_columns, params.think),
    )
    reader = BinidxReader(prefix)
    reader.check_vocabulary(model.spec.vocab_size)
    assistant_only = args.loss_mask == "assistant"
    if assistant_only and reader.all_masks is None:
        raise InputError("data_mask_missing", path=str(prefix))
    events.write("phase", name="evaluating")
    total = tokens_to_read(reader.sizes)
    got = evaluate(
        model,
        reader,
        range(len(reader)),
        assistant_only=assistant_only,
        on_progress=lambda done: events.write(
            "progress", what="evaluate", done=done, total=total, unit="tokens"
        ),
    )
    if not got.counted_tokens:
        raise InputError("data_no_target", path=str(args.data))
    result = {
        "loss": got.loss if math.isfinite(got.loss) else None,
        "ppl": got.ppl if math.isfinite(got.loss) else None,
        "tokens": got.counted_tokens,
        "documents": got.documents,
    }
    if args.json:
        output.result(result)
    else:
        size = f"{got.counted_tokens} tokens  {got.documents} documents"
        output.stdout.write(f"loss {got.loss:.6f}  ppl {got.ppl:.3f}  {size}\n".encode())
    return EXIT_DONE

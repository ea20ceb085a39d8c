"""`data report`: what some data is like, and what training on it with these settings means."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from trainer.commands.output import EXIT_DONE, Output, open_output
from trainer.commands.reports import Reports
from trainer.commands.train import add_flag, default_cache, given_values
from trainer.contract.errors import InputError
from trainer.contract.events import EventWriter
from trainer.contract.params import PARAMS, TrainParams, checked
from trainer.contract.texts import text

# What decides how data is read and how many steps it makes.
_GROUPS = ("data", "length")
_ALSO = ("devices", "num_nodes")


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("data", help="look at training data")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    report = actions.add_parser("report", help="documents, tokens, lengths, steps, samples, doubtful lines")
    report.add_argument("file", type=Path, help="what `convert` takes, or a binidx")
    report.add_argument(
        "--vocab-size", type=int, metavar="N", help="rows of the model's embedding: chooses the vocabulary"
    )
    report.add_argument("--cache", type=Path, metavar="DIR", help="where converted data is kept")
    report.add_argument("--json", action="store_true", help="print one JSON object last")
    for name, param in PARAMS.items():
        if name != "data" and (param.group in _GROUPS or name in _ALSO):
            add_flag(report, param)
    report.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert the data into the cache, where training finds it, and describe it."""
    output = open_output()
    params = checked({**given_values(args), "data": str(args.file), "base_model": "-"})
    reports = Reports(EventWriter(None, output.feed))
    started_s = time.monotonic()
    result = _report(args, params, reports)
    result.update(problems=reports.problems, seconds=round(time.monotonic() - started_s, 3))
    if args.json:
        output.result(result)
    else:
        _print(result, output)
    return EXIT_DONE


def _report(args: argparse.Namespace, params: TrainParams, reports: Reports) -> dict[str, Any]:
    from trainer.data.binidx import BinidxReader, binidx_prefix
    from trainer.data.cache import ensure_converted
    from trainer.data.records import RenderOptions
    from trainer.data.report import describe
    from trainer.data.sources import open_source
    from trainer.data.tokenizers import load_tokenizer

    vocab = None if params.vocab is None else Path(params.vocab)
    prefix, *mixed = (
        ensure_converted(
            Path(path),
            vocab,
            args.vocab_size,
            args.cache or default_cache(),
            reports.progress,
            reports.problem,
            RenderOptions.make(params.data_columns, params.think),
        )
        for path in (args.file, *(path for path, _ in params.mixed_sources))
    )
    is_binidx = binidx_prefix(args.file) is not None
    formats = ["binidx"] if is_binidx else sorted({file.format for file in open_source(args.file).files})
    reader = BinidxReader(prefix)
    tokenizer = load_tokenizer(vocab, args.vocab_size)
    fits = reader.token_range()[1] < tokenizer.vocab_size
    return {
        "path": str(args.file),
        "formats": formats,
        **describe(reader, tokenizer if fits else None, params.ctx_len),
        "ctx_len": params.ctx_len,
        "plan": _plan(reader, mixed, params, reports),
    }


def _plan(reader: Any, mixed: list[Path], params: TrainParams, reports: Reports) -> dict[str, Any] | None:
    """Rows, steps and passes over the data; None where nothing can be learned from it as it is set."""
    from trainer.data.mixing import mix_in, pack, rows_per_pass
    from trainer.data.sampling import split_documents
    from trainer.training.schedule import StepPlan

    documents, held_back = split_documents(len(reader), params.val_fraction, params.seed)
    try:
        rows = pack(reader, documents, params)
        others = mix_in(mixed, len(rows), params)
    except InputError as error:
        reports.problem(error.problem)
        return None
    n_rows = rows_per_pass(len(rows), others)
    plan = StepPlan.make(params, n_rows, params.devices * params.num_nodes)
    return {
        "rows": plan.rows,
        "mixed_rows": plan.rows - len(rows),
        "counted_tokens": rows.counted_tokens,
        "validation_documents": int(held_back.size),
        "steps_per_epoch": plan.steps_per_epoch,
        "epochs": plan.epoch_count,
        "total_steps": plan.total_steps,
        "passes": plan.rows_per_epoch * (plan.epoch_count - plan.epoch_begin) / plan.rows,
    }


def _print(result: dict[str, Any], output: Output) -> None:
    lines = [*_lines(result), "", *_sample_lines(result["samples"])]
    output.stdout.write("\n".join(lines).encode("utf-8", errors="replace") + b"\n")


def _lines(result: dict[str, Any]) -> list[str]:
    lengths, plan, repeated = result["lengths"], result["plan"], result["duplicates"]
    shapes = ", ".join(f"{text(f'shape.{name}')}: {n:,}" for name, n in result["shapes"].items())
    lines = [
        f"{result['path']} ({', '.join(result['formats'])})",
        f"recognised   {shapes}",
        f"documents    {result['documents']:,}, {result['skipped']:,} lines or files left out",
        f"tokens       {result['tokens']:,}",
        f"lengths      {lengths['shortest']:,} to {lengths['longest']:,} tokens; half have at most "
        f"{lengths['p50']:,}, 90 % at most {lengths['p90']:,}",
        f"context      {result['fits_share']:.1%} fit {result['ctx_len']:,} tokens; "
        f"recommended: {result['recommended_ctx_len']:,}",
    ]
    if plan is not None:
        lines.append(
            f"training     {plan['total_steps']:,} steps ({plan['steps_per_epoch']:,} in each of "
            f"{plan['epochs']:,} epochs) read the data {plan['passes']:.2f} times"
        )
    lines.append(f"duplicates   {repeated['count']:,} among {repeated['compared']:,} documents")
    lines += [
        f"{text(f'remark.{name}')}: {found['count']:,}, first at {', '.join(found['places'][:5])}"
        for name, found in result["remarks"].items()
    ]
    most = max(bar["documents"] for bar in lengths["histogram"])
    return lines + [
        f"{bar['upto']:>11,}  {'#' * round(50 * bar['documents'] / most):50}  {bar['documents']:,}"
        for bar in lengths["histogram"]
    ]


def _sample_lines(samples: list[dict[str, Any]]) -> list[str]:
    """Tokens with bars between them; what counts in double angle brackets."""
    lines = []
    for number, sample in enumerate(samples, start=1):
        shown, inside = "", False
        for piece, counts in zip(sample["texts"], sample["counts"], strict=True):
            shown += "|" if inside == counts and shown else ("«" if counts else "»" if inside else "")
            shown += piece or "∎"
            inside = counts
        lines += [f"— sample {number}, {sample['tokens']:,} tokens", shown + ("»" if inside else "")]
    return lines

"""`rwkv-trainer eval`: loss on data, drift from the base and answers of a model, also with an adapter."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.commands.arguments import positive_number
from trainer.commands.output import EXIT_DONE, open_output
from trainer.commands.train import add_flag, default_cache
from trainer.contract.errors import InputError, ParameterError, Problem
from trainer.contract.events import EventWriter
from trainer.contract.params import PARAMS, checked

# How records become documents, as in training.
RENDERING = ("data_columns", "think")
_OUR_TEXT = ""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("eval", help="loss on data, drift from the base, answers before and after")
    parser.add_argument("--model", required=True, type=Path, metavar="M")
    parser.add_argument("--adapter", type=Path, metavar="A")
    parser.add_argument("--alpha", type=positive_number, metavar="X", help="for adapters without metadata")
    parser.add_argument("--reference", type=Path, metavar="B", help="the base of a merged model M")
    parser.add_argument("--data", type=Path, metavar="D", help="mean next-token loss on this")
    parser.add_argument("--vocab", type=Path, metavar="V")
    for name in RENDERING:
        add_flag(parser, PARAMS[name])
    parser.add_argument("--loss-mask", choices=("all", "assistant"), default="all")
    parser.add_argument(
        "--drift", nargs="?", const=_OUR_TEXT, metavar="TEXT", help="KL from the base on general text (ours)"
    )
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="answered by both")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="of an answer at most")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.data is None and args.drift is None and not args.prompt:
        raise ParameterError([Problem("param_required", {}, "data")])
    output = open_output()
    result = _Evaluation(args, EventWriter(None, output.feed)).result()
    if args.json:
        output.result(result)
    else:
        output.stdout.write("".join(f"{line}\n" for line in _lines(result)).encode(errors="replace"))
    return EXIT_DONE


class _Evaluation:
    """The base first, as long as nothing is attached to it; then the model that is asked about."""

    def __init__(self, args: argparse.Namespace, events: EventWriter) -> None:
        self._args, self._events = args, events
        given = {name: getattr(args, name) for name in RENDERING if hasattr(args, name)}
        self._params = checked({"base_model": str(args.model), "data": str(args.data), **given})

    def result(self) -> dict[str, Any]:
        from trainer.data.tokenizers import load_tokenizer
        from trainer.models.checkpoint import open_checkpoint
        from trainer.models.loading import load_model
        from trainer.training.drift import GENERAL_TEXT, DriftProbe
        from trainer.training.samples import answer

        args = self._args
        base_path = args.reference or args.model
        self._events.write("phase", name="loading_model")
        model = load_model(base_path)
        probe = None
        if args.drift is not None:
            text = Path(args.drift) if args.drift else GENERAL_TEXT
            probe = DriftProbe(model, open_checkpoint(base_path), self._reader(text, model.spec.vocab_size))
        tokenizer = load_tokenizer(args.vocab, model.spec.vocab_size) if args.prompt else None
        before = [answer(model, tokenizer, prompt, args.tokens) for prompt in args.prompt if tokenizer]
        if args.reference is not None:
            model = load_model(args.model)
        if args.adapter is not None:
            self._attach(model)
        self._events.write("phase", name="evaluating")
        found = {} if args.data is None else self._loss(model)
        if probe is not None:
            found["drift"] = asdict(probe.measure(model))
        if tokenizer is not None:
            after = [answer(model, tokenizer, prompt, args.tokens) for prompt in args.prompt]
            answers = zip(args.prompt, before, after, strict=True)
            found["samples"] = [{"prompt": p, "base": b, "model": m} for p, b, m in answers]
        return found

    def _attach(self, model: Any) -> None:
        from trainer.adapters.attach import attach_adapter
        from trainer.adapters.files import check_fits, read_adapter
        from trainer.models.checkpoint import open_checkpoint

        adapter = read_adapter(self._args.adapter)
        check_fits(adapter, open_checkpoint(self._args.model).infos, self._args.model)
        attach_adapter(model, adapter, alpha=self._args.alpha)

    def _reader(self, data: Path, vocab_size: int) -> Any:
        from trainer.data.binidx import BinidxReader
        from trainer.data.cache import ensure_converted
        from trainer.data.records import RenderOptions
        from trainer.training.evaluation import tokens_to_read

        events = self._events
        events.write("phase", name="reading_data")
        prefix = ensure_converted(
            data,
            self._args.vocab,
            vocab_size,
            default_cache(),
            lambda done, total: events.write(
                "progress", what="convert", done=done, total=total, unit="bytes"
            ),
            lambda problem: events.write("warning", code=problem.code, args=dict(problem.args)),
            RenderOptions.make(self._params.data_columns, self._params.think),
        )
        reader = BinidxReader(prefix)
        reader.check_vocabulary(vocab_size)
        if not tokens_to_read(reader.sizes):
            raise InputError("data_no_target", path=str(data))
        return reader

    def _loss(self, model: Any) -> dict[str, Any]:
        from trainer.training.evaluation import evaluate, tokens_to_read

        args, events = self._args, self._events
        reader = self._reader(args.data, model.spec.vocab_size)
        assistant_only = args.loss_mask == "assistant"
        if assistant_only and reader.all_masks is None:
            raise InputError("data_mask_missing", path=str(reader.prefix))
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
        return {
            "loss": got.loss if math.isfinite(got.loss) else None,
            "ppl": got.ppl if math.isfinite(got.loss) else None,
            "tokens": got.counted_tokens,
            "documents": got.documents,
        }


def _lines(result: dict[str, Any]) -> list[str]:
    lines = []
    if "documents" in result:
        loss, ppl = (math.nan if result[name] is None else result[name] for name in ("loss", "ppl"))
        size = f"{result['tokens']} tokens  {result['documents']} documents"
        lines.append(f"loss {loss:.6f}  ppl {ppl:.3f}  {size}")
    if drift := result.get("drift"):
        lines.append(
            f"drift {drift['kl']:.6f} nats a token over {drift['tokens']} tokens  "
            f"loss there {drift['loss']:.4f}, of the base {drift['base_loss']:.4f}"
        )
    for sample in result.get("samples", ()):
        lines += [sample["prompt"], f"  base:  {sample['base']}", f"  model: {sample['model']}"]
    return lines

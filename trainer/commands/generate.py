"""`rwkv-trainer generate`: go on with a prompt, or answer it."""

from __future__ import annotations

import argparse
from typing import Any

from trainer.commands.output import EXIT_DONE, open_output
from trainer.commands.serve import add_model_flags, positive, served_name
from trainer.contract.errors import InputError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("generate", help="go on with a prompt")
    add_model_flags(parser)
    parser.add_argument("--prompt", required=True, metavar="P", help="text to go on with")
    parser.add_argument("--chat", action="store_true", help="answer the prompt as a user's message")
    parser.add_argument("--max-tokens", type=positive, default=256, help="limit of the answer (default: 256)")
    parser.add_argument("--temperature", type=between(0, 5), default=1.0, help="0 takes the likeliest token")
    parser.add_argument("--top-p", type=between(0, 1), default=0.5, help="(default: 0.5)")
    parser.add_argument("--top-k", type=between(0, 2**20, int), default=0, help="0 means all (the default)")
    parser.add_argument("--presence-penalty", type=between(-2, 2), default=0.0)
    parser.add_argument("--frequency-penalty", type=between(-2, 2), default=0.0)
    parser.add_argument("--seed", type=between(0, 2**64 - 1, int), help="the same seed gives the same answer")
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT",
        help="text that ends the answer (may be repeated; \\n is a line end)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the text")
    parser.set_defaults(run=run)


def between(low: float, high: float, kind: type = float) -> Any:
    """An argparse type: a number within bounds."""

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:  # also refuses NaN
            raise argparse.ArgumentTypeError(f"must lie between {low} and {high}")
        return value

    return number


def run(args: argparse.Namespace) -> int:
    output = open_output()
    from trainer.data.tokenizers import load_tokenizer
    from trainer.inference.chat import CHAT_STOP, Message, render
    from trainer.inference.engine import open_engine
    from trainer.inference.generation import generate
    from trainer.inference.sampling import SamplingParams
    from trainer.inference.text_stream import TrimmedStream

    engine = open_engine(
        args.model, args.adapter, state=args.state,
        device=args.device, precision=args.precision, alpha=args.alpha,
    )  # fmt: skip
    tokenizer = load_tokenizer(args.vocab, engine.vocab_size)
    chat = render([Message("user", args.prompt)]) if args.chat else None
    prompt = args.prompt if chat is None else chat.text
    tokens = tokenizer.encode(prompt) if chat is None else chat.encode(tokenizer)
    if tokens and (largest := max(tokens)) >= engine.vocab_size:
        raise InputError(
            "token_beyond_vocab", token=largest, vocab_size=engine.vocab_size, path=str(args.model)
        )
    params = SamplingParams(
        max_tokens=args.max_tokens, temperature=args.temperature, top_p=args.top_p, top_k=args.top_k,
        presence_penalty=args.presence_penalty, frequency_penalty=args.frequency_penalty, seed=args.seed,
        stop=(*map(_unescaped, args.stop), *(CHAT_STOP if args.chat else ())),
    )  # fmt: skip
    trim = TrimmedStream() if args.chat else None
    answer, count, reason = "", 0, None
    for piece in generate(engine, tokenizer, tokens, params):
        text = piece.text if trim is None else trim.push(piece.text)
        answer += text
        count += piece.token is not None
        reason = piece.finish_reason
        if not args.json:
            output.stdout.write(text.encode("utf-8"))
    if args.json:
        usage = {"prompt_tokens": len(tokens), "completion_tokens": count}
        name = served_name(args.model, args.adapter, args.state)
        output.result({"text": answer, "finish_reason": reason, "usage": usage, "model": name})
    elif not answer.endswith("\n"):
        output.stdout.write(b"\n")
    return EXIT_DONE


def _unescaped(text: str) -> str:
    """\\n and \\t as a shell's quotes leave them."""
    return text.replace("\\n", "\n").replace("\\t", "\t")

"""`rwkv-trainer serve`: an OpenAI-compatible server over one model."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from trainer.commands.arguments import positive_number
from trainer.commands.output import EXIT_DONE, open_output
from trainer.contract.events import EventWriter

API_KEY_VARIABLE = "RWKV_API_KEY"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("serve", help="serve a model to OpenAI-compatible clients")
    add_model_flags(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port_number, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--api-key", help=f"what clients must send; {API_KEY_VARIABLE} keeps it out of sight")
    parser.add_argument("--slots", type=positive, default=8, help="answers that grow at once (default: 8)")
    parser.add_argument(
        "--defaults", type=_defaults, metavar="JSON", default={},
        help='sampling of requests that leave it open, such as {"temperature": 0.7, "max_tokens": 1000}',
    )  # fmt: skip
    parser.add_argument("--exit-with-parent", action="store_true", help="end when stdin closes")
    parser.set_defaults(run=run)


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that choose a model and where it runs; `generate` has the same."""
    parser.add_argument("--model", required=True, type=Path, metavar="M", help="a base or merged model")
    parser.add_argument("--adapter", type=Path, metavar="A", help="an adapter to put on it, not merged")
    parser.add_argument("--state", type=Path, metavar="S", help="tuned states that every text begins with")
    parser.add_argument("--alpha", type=positive_number, help="of an adapter without metadata")
    parser.add_argument("--vocab", type=Path, metavar="V", help="vocabulary (default: the model's own kind)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto")


def _defaults(text: str) -> dict[str, Any]:
    from trainer.inference.api_types import sampling_defaults

    try:
        return sampling_defaults(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be {error}") from error


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def port_number(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError("must lie between 0 and 65535")
    return value


def served_name(model: Path, *mounted: Path | None) -> str:
    """The model's name for clients: the file's, and those of adapter and state behind it."""
    return "+".join(path.stem for path in (model, *mounted) if path is not None)


def run(args: argparse.Namespace) -> int:
    output = open_output()
    events = EventWriter(None, output.feed)
    stoppable: list[Any] = []
    if args.exit_with_parent:
        from trainer.inference.hosting import exit_with_parent

        def stop() -> bool:
            for server in stoppable:
                server.should_exit = True
            return bool(stoppable)

        exit_with_parent(stop)
    return _serve(args, events, stoppable)


def _serve(args: argparse.Namespace, events: EventWriter, stoppable: list[Any]) -> int:
    from trainer.data.tokenizers import load_tokenizer
    from trainer.inference.engine import choose_device, open_engine
    from trainer.inference.hosting import Server, bind
    from trainer.inference.scheduler import Scheduler
    from trainer.inference.server import Api, Served, create_app
    from trainer.inference.vitals import told_loading

    # The port first: a busy one should not cost the time of loading a model.
    with bind(args.host, args.port) as sock:
        events.write("phase", name="loading_model")
        device, precision = choose_device(args.device, args.precision)
        with told_loading(events, args.model, device, precision):
            engine = open_engine(
                args.model, args.adapter, state=args.state,
                device=device, precision=precision, alpha=args.alpha,
            )  # fmt: skip
        tokenizer = load_tokenizer(args.vocab, engine.vocab_size)
        name = served_name(args.model, args.adapter, args.state)
        served = Served(name, engine.generation, engine.device, engine.vocab_size, int(time.time()))
        scheduler = Scheduler(engine, tokenizer, slots=args.slots)
        key = args.api_key or os.environ.get(API_KEY_VARIABLE) or None
        loopback = sock.getsockname()[0] in ("127.0.0.1", "::1")
        api = Api(served, tokenizer, scheduler, api_key=key, loopback_only=loopback, defaults=args.defaults)
        app = create_app(api)

        def ready() -> None:
            host, port = sock.getsockname()[:2]
            events.write(
                "ready", host=host, port=port, model=name, generation=engine.generation, device=engine.device
            )

        server = Server(app, ready)
        stoppable.append(server)
        try:
            server.run(sockets=[sock])
        finally:
            scheduler.close()
    return EXIT_DONE

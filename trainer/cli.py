"""`rwkv-trainer`: the command line of everything that the trainer does."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from trainer import __version__
from trainer.commands import (
    convert,
    data,
    doctor,
    estimate,
    evaluate,
    export_adapter,
    export_model,
    generate,
    inspect,
    merge,
    models,
    serve,
    train,
)
from trainer.commands.output import EXIT_BAD_INPUT, EXIT_FAILED, missing_package, print_error
from trainer.contract.errors import AppError, InputError

COMMANDS = (
    inspect, models, convert, data, estimate, train, evaluate, merge, export_adapter, export_model,
    generate, serve, doctor,
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(EXIT_BAD_INPUT, f"error[usage]: {message}\n{self.format_usage()}")


def parser() -> argparse.ArgumentParser:
    """The whole command line; the flags of `train` come from the parameter table."""
    top = _Parser(prog="rwkv-trainer", description="Train, merge and try RWKV LoRA adapters.")
    top.add_argument("--version", action="version", version=__version__)
    # What DeepSpeed's launcher adds to a command; the environment says the same.
    top.add_argument("--local_rank", help=argparse.SUPPRESS)
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status is 0 done, 1 failed, 2 bad input or parameters, 3 stopped."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except InputError as error:
        print_error(error)
        return EXIT_BAD_INPUT
    except AppError as error:
        print_error(error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        print_error(missing_package(error))
        return EXIT_FAILED
    except MemoryError:
        print_error(AppError("oom_ram"))
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the process edge: nothing may leave without a code
        traceback.print_exc(file=sys.stderr)
        print_error(AppError("internal", detail=f"{type(error).__name__}: {error}"))
        return EXIT_FAILED

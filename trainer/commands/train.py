"""`rwkv-trainer train`: a new run, or a run resumed exactly where its last checkpoint left it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from trainer.commands.output import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_STOPPED,
    SHOW,
    Output,
    missing_package,
    open_output,
)
from trainer.contract.errors import AppError, InputError, ParameterError, Problem
from trainer.contract.events import EventWriter
from trainer.contract.folders import cache_folder
from trainer.contract.params import DEAD_SWITCHES, PARAMS, Param, TrainParams, check
from trainer.contract.run_folder import RunFolder
from trainer.contract.runner_config import read_runner_config
from trainer.contract.texts import text
from trainer.training.failure import fail
from trainer.training.processes import end_with_parent, is_first

# Spinning threads of a CPU run would starve every other program on a small machine.
PASSIVE_WAIT_CORES = 4


def default_cache() -> Path:
    """Where converted data is kept; `RUNNER_CACHE` moves it."""
    return cache_folder() / "data"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("train", help="train an adapter (or, with --resume, go on with a run)")
    parser.add_argument("--run-dir", required=True, type=Path, metavar="R", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run-dir")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument(
        "--runner-config",
        type=Path,
        metavar="FILE",
        help="RWKV-Runner's config.json; flags go before it",
    )
    parser.add_argument(
        "--show",
        choices=SHOW,
        default="auto",
        help="on stdout: events for programs, text, or text with progress lines as tqdm prints them (bar); "
        "default: text on a terminal, else events",
    )
    parser.add_argument("--check", action="store_true", help="only check the parameters")
    for param in PARAMS.values():
        add_flag(parser, param)
    for name in DEAD_SWITCHES:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, default=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def add_flag(parser: argparse.ArgumentParser, param: Param) -> None:
    """One flag of the parameter table; values stay text, so that `check` reports all problems at once."""
    options: dict[str, Any] = {"dest": param.name, "default": argparse.SUPPRESS}
    options["help"] = text(f"param.{param.name}.label") + (
        "" if param.required or param.default is None else f" (default: {_shown(param.default)})"
    ).replace("%", "%%")
    if param.kind == "bool":
        options["action"] = argparse.BooleanOptionalAction
    elif param.kind in ("lines", "weighted_paths"):
        flags = dict.fromkeys((param.flag, param.flag.removesuffix("s")))
        metavar = "TEXT" if param.kind == "lines" else "PATH=WEIGHT"
        parser.add_argument(*flags, action="append", metavar=metavar, **options)
        return
    else:
        options["metavar"] = {"int": "N", "float": "X", "path": "PATH"}.get(param.kind, "VALUE")
    parser.add_argument(param.flag, **options)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def given_values(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that the command line names."""
    config = getattr(args, "runner_config", None)
    values: dict[str, Any] = {} if config is None else read_runner_config(config)
    for name, value in vars(args).items():
        if name in PARAMS:
            values[name] = (
                [part for part in value.split(",") if part]
                if PARAMS[name].kind == "multi" and isinstance(value, str)
                else value
            )
        elif name in DEAD_SWITCHES:
            values[name] = value not in ("0", "false", "False")
    return values


def run(args: argparse.Namespace) -> int:
    folder = RunFolder(args.run_dir)
    params, notes = (None, []) if args.resume else _checked(given_values(args))
    if args.resume and given_values(args):
        first = next(iter(given_values(args)))
        raise ParameterError([Problem("param_conflict", {"with": "--resume"}, first)])
    if args.check:
        return EXIT_DONE
    if not is_first():
        return _follow(args, folder, params)
    if not args.resume and folder.run_json.exists():
        raise InputError("run_exists", path=str(folder.path))
    if args.resume and not folder.run_json.exists():
        raise InputError("run_not_found", path=str(folder.path))
    output = open_output(args.show)
    made = not folder.path.exists()
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = folder.lock()
    except OSError as error:
        raise InputError(
            "not_writable", path=str(folder.path), reason=error.strerror or str(error)
        ) from error
    with lock:
        code = _locked(args, folder, params, notes, output)
    if code in (EXIT_BAD_INPUT, EXIT_STOPPED) and made:
        _remove_empty(folder)
    return code


def _checked(values: dict[str, Any]) -> tuple[TrainParams, list[Problem]]:
    params, problems = check(values)
    if params is None:
        raise ParameterError([p for p in problems if p.severity == "error"])
    return params, [p for p in problems if p.severity != "error"]


def _locked(
    args: argparse.Namespace,
    folder: RunFolder,
    params: TrainParams | None,
    notes: list[Problem],
    output: Output,
) -> int:
    events = EventWriter(folder.events, output.feed)
    output.log_to(folder.log)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("trainer").setLevel(logging.INFO)
    for note in notes:
        events.write("warning", code=note.code, args={**note.args, "param": note.param})
    status, step, reason, code = "failed", None, None, EXIT_FAILED
    # Until the training loop listens for them, SIGTERM and Ctrl+C end the run where it stands.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _before_torch()
        status, step = _train(args, folder, params, events)
        code = EXIT_DONE if status == "completed" else EXIT_STOPPED
    except KeyboardInterrupt:
        status, code = "stopped", EXIT_STOPPED
    except Exception as error:  # noqa: BLE001 - the process edge: every end of a run is written down
        traceback.print_exc(file=sys.stderr)
        problem = fail(folder, events, error)
        reason = problem.code
        output.error(error if isinstance(error, AppError) else AppError(problem.code, **problem.args))
        code = EXIT_BAD_INPUT if isinstance(error, InputError) else EXIT_FAILED
    finally:
        signal.signal(signal.SIGTERM, before)
    with contextlib.suppress(AppError):
        events.write("bye", status=status, step=step, reason=reason)
    events.close()
    if args.json:
        output.result({"status": status, "step": step, "code": reason, "run_dir": str(folder.path)})
    return code


def _before_torch() -> None:
    if (os.cpu_count() or 1) <= PASSIVE_WAIT_CORES:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _train(
    args: argparse.Namespace, folder: RunFolder, params: TrainParams | None, events: EventWriter
) -> tuple[str, int]:
    try:
        from trainer.training.control import Control, command_stream
        from trainer.training.run import RunRequest, train
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    control = Control(folder.control, events, command_stream())
    request = RunRequest(folder, params, default_cache(), [sys.executable, *sys.argv])
    return train(request, events, control)


def _follow(args: argparse.Namespace, folder: RunFolder, params: TrainParams | None) -> int:
    """A further process of the same run: it computes, and the first one does the talking."""
    end_with_parent()
    _before_torch()
    status, _ = _train(args, folder, params, EventWriter(None, None))
    return EXIT_DONE if status == "completed" else EXIT_STOPPED


def _remove_empty(folder: RunFolder) -> None:
    """A run that never started leaves no folder behind."""
    if folder.run_json.exists():
        return
    for leftover in (folder.events, folder.log, folder.lock_file, folder.summary_json):
        leftover.unlink(missing_ok=True)
    if not any(folder.path.iterdir()):
        folder.path.rmdir()

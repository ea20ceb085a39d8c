"""The trainer's command lines, as argv lists: built apart from running them, so that they can be tested."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trainer
from runner_gui.model.serving import ServeOptions
from trainer.contract.params import PARAMS, TrainParams, with_paths
from wsl_bootstrap.jobs.job import JobEnd, WslJob, job_end

# How the command that is built will know a file.
Naming = Callable[[Path], str]

# Asks the trainer to write coded errors to stderr as framed events beside the sentences.
EVENTS_VARIABLE = "RWKV_TRAINER_EVENTS"
# Where the trainer keeps converted data, in the folder "data" below.
# As flags, since a Python that is packed with the window reads no variables: UTF-8, and every line at once.
PYTHON_FLAGS = ("-X", "utf8", "-u")
CACHE_VARIABLE = "RUNNER_CACHE"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what is run, where, and with which additions to the environment.

    `job` is what it is inside the distribution, where it does not run on this computer.
    """

    argv: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    job: WslJob | None = None


def trainer_command(interpreter: str, *args: str, cache: Path | None = None) -> Command:
    """`python -m trainer …`, run in the folder that holds the package so that no other one shadows it."""
    folder = Path(trainer.__file__).resolve().parents[1]
    env = {EVENTS_VARIABLE: "1"}
    if cache is not None:
        env[CACHE_VARIABLE] = str(cache)
    return Command((interpreter or sys.executable, *PYTHON_FLAGS, "-m", "trainer", *args), folder, env)


def with_env(command: Command, env: Mapping[str, str]) -> Command:
    """The same command of this computer with more in its environment."""
    return replace(command, env={**command.env, **env})


def command_end(command: Command, exit_code: int, said: str) -> JobEnd:
    """How a command ended.

    Args:
        exit_code: of the process that this computer started, negative for a signal.
        said: what that printed, for a failure of WSL itself.
    """
    return JobEnd(exit_code) if command.job is None else job_end(command.argv, exit_code, said)


def absolute(path: str | os.PathLike[str]) -> str:
    """The name of a file for a command on this computer, which runs in another folder than the window."""
    return str(Path(path).expanduser().absolute())


def train_args(params: TrainParams, run_dir: Path, name: Naming = absolute) -> list[str]:
    """Every parameter as a flag.

    Values are joined to their flags by "=", so that none of them is taken for a flag itself.
    """
    args = ["train", f"--run-dir={name(run_dir)}"]
    for param, value in with_paths(params.as_json(), lambda path: name(Path(path))).items():
        args += _flag(param, value)
    return args


def _flag(param_name: str, value: Any) -> list[str]:
    param = PARAMS[param_name]
    if value is None:
        return []
    if param.kind == "bool":
        return [param.flag if value else "--no-" + param.flag.removeprefix("--")]
    if param.kind in ("lines", "weighted_paths"):
        return [f"--{_singular(param_name)}={line}" for line in value]
    if param.kind == "multi":
        return [f"{param.flag}={','.join(value)}"]
    return [f"{param.flag}={value!r}" if isinstance(value, float) else f"{param.flag}={value}"]


def _singular(name: str) -> str:
    return name.removesuffix("s").replace("_", "-")


def resume_args(run_dir: Path, name: Naming = absolute) -> list[str]:
    """Go on with a run from its last checkpoint, with its own frozen parameters."""
    return ["train", f"--run-dir={name(run_dir)}", "--resume"]


def convert_args(
    data: str, vocab: str | None, cache: Path, vocab_size: int | None = None, render: Sequence[str] = ()
) -> list[str]:
    """Convert into the cache, keyed by content; costs little where that has been done.

    Args:
        render: the flags of `render_args`.
    """
    args = ["convert", f"--data={absolute(data)}", f"--cache={absolute(cache)}", "--json"]
    if vocab is not None:
        args.append(f"--vocab={absolute(vocab)}")
    if vocab_size is not None:
        args.append(f"--vocab-size={vocab_size}")
    return [*args, *render]


def render_args(values: Mapping[str, Any]) -> list[str]:
    """How records become documents, as flags."""
    return [flag for param in ("data_columns", "think") for flag in _flag(param, values[param])]


def report_args(values: Mapping[str, Any], cache: Path) -> list[str]:
    """Describe the data of these parameters; what is converted for it goes into the cache.

    Args:
        values: parameter name -> value.
    """
    args = ["data", "report", "--json", f"--cache={absolute(cache)}"]
    values = with_paths(values, absolute)
    for param_name, param in PARAMS.items():
        if param_name != "data" and (
            param.group in ("data", "length") or param_name in ("devices", "num_nodes")
        ):
            args += _flag(param_name, values[param_name])
    return [*args, values["data"]]


def estimate_args(values: Mapping[str, Any]) -> list[str]:
    """Estimate a run with these parameters; its data is left out, since reading that may take long.

    Args:
        values: parameter name -> value.
    """
    args = ["estimate", "--json"]
    for param_name, value in with_paths(values, absolute).items():
        if param_name not in ("data", "mix_data"):
            args += _flag(param_name, value)
    return args


def merge_args(
    base: Path, adapter: Path, output: Path, name: Naming = absolute, options: Sequence[str] = ()
) -> list[str]:
    return [
        "merge",
        f"--base={name(base)}",
        f"--adapter={name(adapter)}",
        f"--out={name(output)}",
        *options,
        "--json",
    ]


def export_args(model: Path, output: Path, dtype: str | None = None, name: Naming = absolute) -> list[str]:
    """Write a model in the format that the output's name says."""
    args = ["export-model", f"--model={name(model)}", f"--out={name(output)}"]
    return args if dtype is None else [*args, f"--dtype={dtype}"]


def inspect_args(model: Path) -> list[str]:
    return ["inspect", absolute(model), "--json"]


def serve_args(options: ServeOptions, name: Naming = absolute) -> list[str]:
    """Serve a model to this window, and end with it. The key does not belong here, where anyone sees it."""
    args = [
        "serve",
        f"--model={name(options.model)}",
        f"--host={options.host}",
        f"--port={options.port}",
        f"--device={options.device}",
        f"--precision={options.precision}",
        "--exit-with-parent",
    ]
    if options.alpha is not None:
        args.append(f"--alpha={options.alpha!r}")
    if options.sampling:
        args.append(f"--defaults={json.dumps(dict(options.sampling))}")
    for flag, path in (("adapter", options.adapter), ("state", options.state)):
        if path is not None:
            args.append(f"--{flag}={name(path)}")
    return args

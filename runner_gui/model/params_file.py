"""Parameters as a small JSON file or text: kept for later, sent to somebody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.errors import AppError
from trainer.contract.files import write_json
from trainer.contract.params import DEAD_SWITCHES, PARAMS
from trainer.contract.runner_config import read_runner_config

FORMAT = "rwkv-lora-runner-params"
VERSION = 1
MAX_BYTES = 2**20
_MAX_NUMBER = 2**31 - 1  # what a field can show; a NaN is not below it either


@dataclass(frozen=True, slots=True)
class LoadedParams:
    """What a file gave.

    `left_out` names what is no parameter here, and paths of files that are not on this computer.
    """

    values: dict[str, Any]
    left_out: tuple[str, ...]


def as_text(values: Mapping[str, Any]) -> str:
    """The parameters that differ from their defaults, to be sent to somebody else: without paths."""
    changed = (item for item in values.items() if _plain(item[1]) != _plain(PARAMS[item[0]].default))
    shared = {name: value for name, value in changed if PARAMS[name].kind not in ("path", "weighted_paths")}
    return json.dumps(_document(shared), ensure_ascii=False, indent=1)


def save(values: Mapping[str, Any], path: Path) -> None:
    """Write every parameter, paths too.

    Raises:
        AppError: `not_writable` or `disk_full`.
    """
    write_json(path, _document(values))


def load(path: Path) -> LoadedParams:
    """Read a file of `save`, a run's `run.json`, or a plain object of parameters.

    Raises:
        AppError: `params_file_unreadable`.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AppError(
            "params_file_unreadable", path=str(path), reason=error.strerror or str(error)
        ) from error
    return _understood(raw, str(path))


def load_runner(path: Path) -> LoadedParams:
    """Read the training parameters of RWKV-Runner's `config.json`, which keeps some numbers as text.

    Raises:
        AppError: `runner_config_unreadable`.
    """
    found = {name: _number(name, value) for name, value in read_runner_config(path).items()}
    values = {name: _typed(name, value) for name, value in found.items() if _fits(name, value)}
    asked = (
        name for name, value in found.items() if name not in DEAD_SWITCHES or value not in (0, False, "0")
    )
    return LoadedParams(values, tuple(name for name in asked if name not in values))


def _number(name: str, value: Any) -> Any:
    kind = PARAMS[name].kind if name in PARAMS else ""
    if kind not in ("int", "float") or isinstance(value, bool):
        return value
    try:
        number = float(value)
        return int(number) if kind == "int" and number == int(number) else number
    except (TypeError, ValueError, OverflowError):
        return value


def from_text(text: str) -> LoadedParams:
    """Read what `as_text` or a file gave.

    Raises:
        AppError: `params_file_unreadable`.
    """
    return _understood(text.encode("utf-8", errors="replace"), "…")


def _document(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "params": {n: _plain(v) for n, v in values.items()}}


def _understood(raw: bytes, where: str) -> LoadedParams:
    if len(raw) > MAX_BYTES:
        raise AppError("params_file_unreadable", path=where, reason=f"> {MAX_BYTES} B")
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AppError("params_file_unreadable", path=where, reason=str(error)) from error
    params = found.get("params", found) if isinstance(found, dict) else None
    if not isinstance(params, dict):
        raise AppError("params_file_unreadable", path=where, reason="params")
    values = {name: _typed(name, value) for name, value in params.items() if _fits(name, value)}
    left_out = tuple(name for name in params if name not in values and name not in ("format", "version"))
    if not values:
        raise AppError("params_file_unreadable", path=where, reason="params")
    return LoadedParams(values, left_out)


def _fits(name: str, value: Any) -> bool:
    """Whether a form can show it; whether it is good is for the form to say."""
    param = PARAMS.get(name)
    if param is None:
        return False
    if value is None:
        return param.optional
    if param.kind == "path":
        return isinstance(value, str) and _exists(value)
    if param.kind == "bool" or isinstance(value, bool):
        return param.kind == "bool" and isinstance(value, bool)
    if param.kind in ("int", "float"):
        return isinstance(value, int if param.kind == "int" else (int, float)) and abs(value) <= _MAX_NUMBER
    if param.kind == "choice":
        return value in param.choices
    if param.kind == "multi":
        return isinstance(value, list) and all(choice in param.choices for choice in value)
    if param.kind in ("lines", "weighted_paths"):
        return isinstance(value, list) and all(isinstance(line, str) for line in value)
    return isinstance(value, str)


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, of no known user, or with a zero in it
        return False


def _typed(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return float(value) if PARAMS[name].kind == "float" else value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value

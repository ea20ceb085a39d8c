"""One file to send when asking for help: what was found, planned and done, without names and secrets."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path, PureWindowsPath

from wsl_bootstrap.diagnostics import diagnostics
from wsl_bootstrap.hosts.base import Host, HostError
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.options import SetupOptions
from wsl_bootstrap.redact import redact
from wsl_bootstrap.report import plans_json, statuses_json
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan

LAST_LINES = 2000  # of each log
_WSL_TIMEOUT_S = 15.0


def gather(
    host: Host,
    statuses: Sequence[Status],
    plans: Sequence[Plan],
    options: SetupOptions,
    logs: Iterable[Path],
    language: str,
) -> dict[str, str]:
    """Return the texts of a bundle by their file names.

    Args:
        logs: the journal, a run's `run.json`, `events.jsonl` and `train.log`: whatever tells more. Of each
            the last lines are taken; one that cannot be read says why.
        language: one of `texts.LANGUAGES`.
    """
    parts = {
        "report.txt": diagnostics(host, statuses, plans, {}, language),
        "status.json": _json({**statuses_json(statuses), **plans_json(plans)}),
        "choices.json": _json(asdict(options)),
        "packages.txt": "\n".join(sorted({f"{d.name}=={d.version}" for d in metadata.distributions()})),
    }
    if isinstance(host, WindowsHost):
        parts["windows.json"] = host.windows.snapshot().model_dump_json(indent=1)
        parts["wsl.txt"] = "\n".join(_ask_wsl(host, word) for word in ("--version", "--status"))
    for place, path in enumerate(logs):
        parts[f"logs/{place}-{path.name}"] = _tail(path)
    return parts


def write_bundle(target: Path, host: Host, parts: Mapping[str, str]) -> None:
    """Write a zip archive of texts, each with names, homes and secrets taken out.

    Raises:
        OSError: it could not be written; there is none then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=target.name, dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in parts.items():
                archive.writestr(name, _clean(host, text))
        os.replace(temporary, target)
    except OSError:
        os.unlink(temporary)
        raise


def _clean(host: Host, text: str) -> str:
    if isinstance(host, WindowsHost):
        profile = host.windows.snapshot().profile
        text = redact(text, home=profile, user=PureWindowsPath(profile).name)
    return redact(text)


def _ask_wsl(host: WindowsHost, word: str) -> str:
    try:
        answer = host.wsl.call(word, timeout_s=_WSL_TIMEOUT_S)
    except HostError as problem:
        return f"wsl {word}: {problem}"
    return f"wsl {word}: exit {answer.exit_code}\n{answer.stdout}{answer.stderr}"


def _tail(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, LAST_LINES))
    except OSError as problem:
        return f"{type(problem).__name__}: {problem.strerror}"


def _json(record: Mapping[str, object]) -> str:
    return json.dumps(record, ensure_ascii=False, indent=1)

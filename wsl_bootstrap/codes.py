"""Everything that set-up can have to say, as codes. The sentences are in texts/, in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Severity(str, Enum):
    """How much a code matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Arg = str | int | float


@dataclass(frozen=True)
class Code:
    """One thing to say: which sentence, how serious, and the facts that fill it."""

    id: str
    severity: Severity
    args: Mapping[str, Arg] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class CodeSpec:
    """What a code always carries: its severity, the names of its facts, and the buttons that help."""

    severity: Severity
    args: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()


_INFO, _WARNING, _ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR
_RETRY, _LOG, _RECHECK = "retry", "show_log", "recheck"

REGISTRY: dict[str, CodeSpec] = {
    # Windows and WSL
    "not_needed_on_linux": CodeSpec(_INFO),
    "windows_host_later": CodeSpec(_ERROR),
    "restart_needed": CodeSpec(_WARNING, actions=("restart",)),
    # the computer
    "memory_too_small": CodeSpec(_ERROR, ("have_gb", "need_gb"), (_RECHECK,)),
    "memory_low": CodeSpec(_WARNING, ("have_gb", "need_gb")),
    "disk_full": CodeSpec(_ERROR, ("path", "have_gb", "need_gb"), (_RECHECK,)),
    "disk_low": CodeSpec(_WARNING, ("path", "have_gb", "need_gb")),
    "gpu_none": CodeSpec(_INFO),
    "gpu_driver_silent": CodeSpec(_WARNING, ("detail",), (_RECHECK,)),
    "gpu_driver_old": CodeSpec(_WARNING, ("have", "need"), (_RECHECK,)),
    # the Python environment
    "python_unsupported": CodeSpec(_ERROR, ("path", "found", "need"), (_RECHECK,)),
    "python_broken": CodeSpec(_ERROR, ("path", "detail"), (_RECHECK,)),
    "venv_module_missing": CodeSpec(_ERROR, ("path", "command"), (_RECHECK,)),
    "venv_missing": CodeSpec(_INFO, ("path",)),
    "venv_broken": CodeSpec(_WARNING, ("path", "detail")),
    "packages_missing": CodeSpec(_INFO, ("packages",)),
    "torch_missing": CodeSpec(_INFO),
    "torch_broken": CodeSpec(_WARNING, ("detail",)),
    "torch_misfit": CodeSpec(_WARNING, ("version", "gpu")),
    "torch_gpu_unseen": CodeSpec(_WARNING, ("version", "gpu"), (_RECHECK,)),
    # the proof
    "smoke_not_run": CodeSpec(_INFO),
    "smoke_failed": CodeSpec(_ERROR, ("failed", "detail"), (_RETRY, _LOG)),
    "smoke_no_answer": CodeSpec(_ERROR, ("exit_code", "detail"), (_RETRY, _LOG)),
    # anything that was run
    "download_failed": CodeSpec(_ERROR, ("detail",), (_RETRY, _LOG)),
    "command_failed": CodeSpec(_ERROR, ("command", "exit_code", "detail"), (_RETRY, _LOG)),
    "command_timeout": CodeSpec(_ERROR, ("command", "timeout_s"), (_RETRY, _LOG)),
    "command_not_found": CodeSpec(_ERROR, ("command",), (_RECHECK,)),
    "elevation_refused": CodeSpec(_ERROR, ("command",), (_RETRY,)),
    "no_effect": CodeSpec(_ERROR, ("step",), (_RETRY, _LOG)),
    "internal_error": CodeSpec(_ERROR, ("detail",), (_RETRY, _LOG)),
}


def make_code(code_id: str, **args: Arg) -> Code:
    """Return the registered code with its facts filled in.

    Raises:
        ValueError: no such code, or not exactly the facts that its sentences use.
    """
    spec = REGISTRY.get(code_id)
    if spec is None:
        raise ValueError(f"no set-up code {code_id!r}")
    if set(args) != set(spec.args):
        raise ValueError(f"{code_id} takes {sorted(spec.args)}, not {sorted(args)}")
    return Code(code_id, spec.severity, args)

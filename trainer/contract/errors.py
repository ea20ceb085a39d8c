"""Error codes: every failure that a person may meet has an id here and its sentences in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.contract.texts import text

Severity = Literal["error", "warning", "advice"]

# id -> severity. The catalogue holds `error.<id>.title`, `.why` and `.fix` for each of them.
CODES: dict[str, Severity] = {
    # parameters
    "param_required": "error",
    "param_type": "error",
    "param_not_finite": "error",
    "param_below": "error",
    "param_above": "error",
    "param_choice": "error",
    "param_weighted_path": "error",
    "param_unknown": "error",
    "param_conflict": "error",
    "runner_config_unreadable": "error",  # path, reason
    "params_file_unreadable": "error",  # path, reason
    "advice_above": "advice",
    "advice_below": "advice",
    "dead_switch": "warning",
    # data
    "data_not_found": "error",
    "data_unreadable": "error",
    "data_empty": "error",
    "data_no_documents": "error",
    "data_encoding": "error",
    "data_format": "error",
    "data_columns": "error",
    "data_columns_unknown": "error",
    "data_line_skipped": "warning",
    "data_file_skipped": "warning",
    "data_short": "warning",
    "data_no_target": "error",
    "data_changed": "error",
    "data_mask_missing": "error",
    "validation_empty": "warning",
    "vocab_not_found": "error",
    "vocab_invalid": "error",
    "token_beyond_vocab": "error",
    "binidx_invalid": "error",
    # models
    "model_not_found": "error",
    "model_unreadable": "error",
    "model_truncated": "error",
    "model_unsafe": "error",
    "model_legacy": "error",
    "model_not_rwkv": "error",
    "model_is_adapter": "error",
    "model_variant": "error",
    "model_method": "error",
    "model_keys": "error",
    "model_shape": "error",
    # adapters and merging
    "adapter_unreadable": "error",
    "adapter_not_adapter": "error",
    "adapter_kind": "error",
    "adapter_mismatch": "error",
    "adapter_resize": "error",
    "adapter_export": "error",
    "adapter_truncated": "warning",
    "adapter_alpha_unknown": "error",
    "state_not_state": "error",
    "adapter_base_quantised": "warning",
    "adapter_alpha_differs": "warning",
    "adapter_method_differs": "warning",
    "adapter_base_differs": "warning",
    "adapter_is_ours": "advice",
    "adapter_is_slim": "advice",
    "adapter_is_miss": "advice",
    "adapter_is_pissa": "advice",
    "adapter_is_peft": "advice",
    "adapter_is_state": "advice",
    "merge_state": "error",
    "merge_output_exists": "error",
    "merge_format": "error",
    "merge_layers": "error",
    "merge_quantised": "error",
    "gguf_generation": "error",
    "merge_verify_failed": "error",
    "merge_verify_skipped": "warning",
    # runs
    "run_in_use": "error",
    "run_not_found": "error",
    "run_exists": "error",
    "run_resume_nothing": "error",
    "base_changed": "error",
    "checkpoint_unreadable": "warning",
    "not_writable": "error",
    "disk_full": "error",
    "oom_ram": "error",
    "oom_vram": "error",
    "killed": "error",
    "server_killed": "error",  # signal
    "nonfinite_loss": "error",
    "device_unavailable": "error",
    "deepspeed_missing": "error",  # reason
    "processes_differ": "error",  # started, devices, num_nodes
    "process_lost": "error",  # what
    "devices_share_data": "advice",  # devices, each, samples
    "precision_unavailable": "error",
    "precision_fallback": "warning",
    "kernel_fallback": "warning",
    "torch_missing": "error",
    "package_missing": "error",
    "port_busy": "error",
    "host_unavailable": "error",  # host, reason
    "chat_file_unreadable": "error",  # path
    "internal": "error",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong or unusual, as data: the sentence is made where it is shown."""

    code: str
    args: Mapping[str, Any] = field(default_factory=dict)
    param: str | None = None

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(f"unregistered error code {self.code!r}")

    @property
    def severity(self) -> Severity:
        return CODES[self.code]

    def sentence(self, language: str = "en") -> str:
        """The problem and its remedy in one line."""
        values = {**self.args}
        if self.param is not None:
            values["param"] = text(f"param.{self.param}.label", language)
        title = text(f"error.{self.code}.title", language, **values)
        fix = text(f"error.{self.code}.fix", language, **values)
        return f"{title} {fix}".strip()

    def as_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"code": self.code, "severity": self.severity, "args": dict(self.args)}
        if self.param is not None:
            out["param"] = self.param
        return out


class AppError(Exception):
    """A failure with a registered code; `str()` of it is the English sentence.

    Args:
        code: an id of `CODES`.
        args: values for the sentence (JSON types only).
    """

    def __init__(self, code: str, **args: Any) -> None:
        self.problem = Problem(code, args)
        super().__init__(self.problem.sentence())

    @property
    def code(self) -> str:
        return self.problem.code


class InputError(AppError):
    """Input or parameters that cannot work; found before work starts (exit status 2)."""


class ParameterError(InputError):
    """All problems of a set of parameters at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        first = problems[0]
        Exception.__init__(self, "\n".join(p.sentence() for p in problems))
        self.problem = first

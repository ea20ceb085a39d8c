"""The parameter table: one model drives the form, the command line, validation, run.json and the docs.

Names, defaults and Chinese labels are those of RWKV-Runner's form, so that its users find their settings
again; the labels and help texts are in the catalogue under `param.<name>.label|help|warn`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from trainer.contract.errors import ParameterError, Problem

Kind = Literal["path", "int", "float", "bool", "choice", "multi", "text", "lines", "weighted_paths"]
Level = Literal["basic", "advanced"]
# How devices share the work; DeepSpeed's under Lightning's names.
Strategy = Literal[
    "auto",
    "ddp",
    "deepspeed_stage_1",
    "deepspeed_stage_2",
    "deepspeed_stage_2_offload",
    "deepspeed_stage_3",
    "deepspeed_stage_3_offload",
]
GROUPS = ("model", "data", "length", "learning", "lora", "checks", "device")
LORA_PARTS = ("att", "ffn", "time", "ln", "time_lora", "emb", "head")
# Switches of old trainers that no current model has; accepted from imported settings and kept off.
DEAD_SWITCHES = ("pre_ffn", "head_qk")
MAX_WEIGHT = 100.0
# In what a kind of device computes. On a CPU bf16 means "where it is quicker, else fp32".
PRECISIONS = {"cpu": ("bf16", "fp32"), "cuda": ("bf16", "fp16", "tf32", "fp32")}


def _p(
    default: Any = ...,
    *,
    kind: Kind,
    group: str,
    level: Level = "advanced",
    unit: str = "",
    warn_above: float | None = None,
    choices: tuple[str, ...] = (),
    scientific: bool = False,
    **bounds: Any,
) -> Any:
    extra = {
        "kind": kind,
        "group": group,
        "level": level,
        "unit": unit,
        "warn_above": warn_above,
        "choices": list(choices),
        "scientific": scientific,
    }
    return Field(default, json_schema_extra=extra, **bounds)


def weighted_path(line: str) -> tuple[str, float]:
    """Divide PATH=WEIGHT; the path may hold equals signs itself.

    Raises:
        ValueError: it is no such line, or the weight is not above 0 and at most `MAX_WEIGHT`.
    """
    path, _, weight = line.rpartition("=")
    if not path.strip() or not 0 < float(weight) <= MAX_WEIGHT:
        raise ValueError(line)
    return path, float(weight)


def _is_weighted_path(line: str) -> str:
    weighted_path(line)
    return line


class TrainParams(BaseModel):
    """Every parameter of a training run. Build it through `check`, which reports all problems at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base_model: str = _p(kind="path", group="model", level="basic", min_length=1)
    lora_load: str | None = _p(None, kind="path", group="model", level="basic")
    lora_resize: bool = _p(False, kind="bool", group="model")
    data: str = _p(kind="path", group="data", level="basic", min_length=1)
    mix_data: tuple[Annotated[str, AfterValidator(_is_weighted_path)], ...] = _p(
        (), kind="weighted_paths", group="data"
    )
    vocab: str | None = _p(None, kind="path", group="data")
    loss_mask: Literal["all", "assistant"] = _p(
        "all", kind="choice", group="data", level="basic", choices=("all", "assistant")
    )
    data_columns: str | None = _p(None, kind="text", group="data")
    think: Literal["keep", "drop", "empty"] = _p(
        "keep", kind="choice", group="data", choices=("keep", "drop", "empty")
    )
    packing: bool = _p(True, kind="bool", group="data")
    val_fraction: float = _p(0.0, kind="float", group="data", ge=0.0, le=0.5)
    seed: int = _p(42, kind="int", group="data", ge=0, le=2**31 - 1)

    ctx_len: int = _p(
        1024, kind="int", group="length", level="basic", unit="tokens", ge=16, le=1_048_576, warn_above=4096
    )
    infctx: bool = _p(False, kind="bool", group="length")
    bptt_chunks: int = _p(0, kind="int", group="length", unit="chunks", ge=0, le=1_000_000)
    epoch_steps: int = _p(200, kind="int", group="length", unit="batches", ge=0, le=10_000_000)
    epoch_count: int = _p(20, kind="int", group="length", level="basic", unit="epochs", ge=1, le=1_000_000)
    epoch_begin: int = _p(0, kind="int", group="length", unit="epochs", ge=0, le=1_000_000)
    epoch_save: int = _p(1, kind="int", group="length", unit="epochs", ge=1, le=1_000_000)
    micro_bsz: int = _p(1, kind="int", group="length", level="basic", unit="samples", ge=1, le=1024)
    accumulate_grad_batches: int = _p(8, kind="int", group="length", unit="batches", ge=1, le=1024)

    lr_init: float = _p(
        5e-5, kind="float", group="learning", level="basic", gt=0.0, le=1.0, warn_above=1e-4, scientific=True
    )
    lr_final: float = _p(
        5e-5, kind="float", group="learning", level="basic", ge=0.0, le=1.0, warn_above=1e-4, scientific=True
    )
    lr_schedule: Literal["constant", "cosine", "exponential", "wsd"] = _p(
        "exponential",
        kind="choice",
        group="learning",
        choices=("constant", "cosine", "exponential", "wsd"),
    )
    warmup_steps: int = _p(0, kind="int", group="learning", unit="steps", ge=0, le=10_000_000)
    beta1: float = _p(0.9, kind="float", group="learning", ge=0.0, lt=1.0)
    beta2: float = _p(0.999, kind="float", group="learning", ge=0.0, lt=1.0)
    adam_eps: float = _p(1e-8, kind="float", group="learning", gt=0.0, le=1.0, scientific=True)
    weight_decay: float = _p(0.0, kind="float", group="learning", ge=0.0, le=1.0)
    grad_clip: float = _p(1.0, kind="float", group="learning", ge=0.0, le=1000.0)
    l2wrap: float = _p(0.0, kind="float", group="learning", ge=0.0, le=1.0, scientific=True)

    method: Literal["lora", "dora", "pissa", "miss", "state", "full"] = _p(
        "lora", kind="choice", group="lora", choices=("lora", "dora", "pissa", "miss", "state", "full")
    )
    lora_r: int = _p(64, kind="int", group="lora", level="basic", ge=1, le=4096)
    lora_alpha: float = _p(192.0, kind="float", group="lora", level="basic", gt=0.0, le=65536.0)
    lora_rs: bool = _p(False, kind="bool", group="lora")
    lora_dropout: float = _p(0.01, kind="float", group="lora", ge=0.0, lt=1.0)
    lora_parts: tuple[Literal["att", "ffn", "time", "ln", "time_lora", "emb", "head"], ...] = _p(
        ("att", "ffn", "time", "ln"), kind="multi", group="lora", choices=LORA_PARTS, min_length=1
    )

    eval_every: int = _p(0, kind="int", group="checks", unit="steps", ge=0, le=10_000_000)
    patience: int = _p(0, kind="int", group="checks", unit="evaluations", ge=0, le=10_000)
    sample_prompts: tuple[str, ...] = _p((), kind="lines", group="checks")
    sample_every: int = _p(0, kind="int", group="checks", unit="steps", ge=0, le=10_000_000)
    sample_heldout: int = _p(0, kind="int", group="checks", unit="documents", ge=0, le=100)
    sample_tokens: int = _p(64, kind="int", group="checks", unit="tokens", ge=1, le=4096)
    drift: bool = _p(True, kind="bool", group="checks")
    drift_data: str | None = _p(None, kind="path", group="checks")
    log_formats: tuple[Literal["csv", "tensorboard"], ...] = _p(
        ("csv",), kind="multi", group="checks", choices=("csv", "tensorboard")
    )
    keep_last: int = _p(3, kind="int", group="checks", unit="checkpoints", ge=1, le=100_000)

    precision: Literal["bf16", "fp16", "tf32", "fp32"] = _p(
        "bf16", kind="choice", group="device", level="basic", choices=("bf16", "fp16", "tf32", "fp32")
    )
    quant: Literal["none", "nf4", "int8"] = _p(
        "none", kind="choice", group="device", choices=("none", "nf4", "int8")
    )
    grad_cp: bool = _p(True, kind="bool", group="device", level="basic")
    device: Literal["auto", "cuda", "cpu"] = _p(
        "auto", kind="choice", group="device", choices=("auto", "cuda", "cpu")
    )
    devices: int = _p(1, kind="int", group="device", unit="devices", ge=1, le=1024)
    num_nodes: int = _p(1, kind="int", group="device", unit="nodes", ge=1, le=1024)
    strategy: Strategy = _p("auto", kind="choice", group="device", choices=get_args(Strategy))

    @property
    def scaled_alpha(self) -> float:
        """The alpha whose alpha / r is the scale that was asked for: rsLoRA's is lora_alpha / √r."""
        return self.lora_alpha * math.sqrt(self.lora_r) if self.lora_rs else self.lora_alpha

    @property
    def mixed_sources(self) -> tuple[tuple[str, float], ...]:
        """Path and weight of each data that is mixed in."""
        return tuple(weighted_path(line) for line in self.mix_data)

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Param:
    """One row of the table, as the form, the command line and the docs want it."""

    name: str
    kind: Kind
    group: str
    level: Level
    unit: str
    default: Any
    required: bool
    optional: bool
    choices: tuple[str, ...]
    lo: float | None
    lo_open: bool
    hi: float | None
    hi_open: bool
    warn_above: float | None
    scientific: bool

    @property
    def flag(self) -> str:
        """The command line's spelling, for example `--ctx-len`."""
        return "--" + self.name.replace("_", "-")


def _bound(field: FieldInfo, closed: str, opened: str) -> tuple[float | None, bool]:
    for item in field.metadata:
        if (value := getattr(item, closed, None)) is not None:
            return float(value), False
        if (value := getattr(item, opened, None)) is not None:
            return float(value), True
    return None, False


def _param(name: str, field: FieldInfo) -> Param:
    extra: dict[str, Any] = field.json_schema_extra  # type: ignore[assignment]
    lo, lo_open = _bound(field, "ge", "gt")
    hi, hi_open = _bound(field, "le", "lt")
    annotation = field.annotation
    optional = get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)
    return Param(
        name=name,
        kind=extra["kind"],
        group=extra["group"],
        level=extra["level"],
        unit=extra["unit"],
        default=None if field.is_required() else field.default,
        required=field.is_required(),
        optional=optional,
        choices=tuple(extra["choices"]),
        lo=lo,
        lo_open=lo_open,
        hi=hi,
        hi_open=hi_open,
        warn_above=extra["warn_above"],
        scientific=extra["scientific"],
    )


PARAMS: dict[str, Param] = {name: _param(name, field) for name, field in TrainParams.model_fields.items()}

_PYDANTIC_CODES = {
    "missing": "param_required",
    "string_too_short": "param_required",
    "too_short": "param_required",
    "extra_forbidden": "param_unknown",
    "finite_number": "param_not_finite",
    "greater_than_equal": "param_below",
    "greater_than": "param_below",
    "less_than_equal": "param_above",
    "less_than": "param_above",
    "literal_error": "param_choice",
    "value_error": "param_weighted_path",
}


def _problem(error: Mapping[str, Any], values: Mapping[str, Any]) -> Problem:
    name = str(error["loc"][0])
    code = _PYDANTIC_CODES.get(error["type"], "param_type")
    given = values.get(name)
    if isinstance(given, float) and not math.isfinite(given):
        code = "param_not_finite"
    if name not in PARAMS:
        return Problem("param_unknown", {"name": name})
    param = PARAMS[name]
    if isinstance(given, (list, tuple)) and len(error["loc"]) > 1:  # the member that is wrong
        given = given[error["loc"][1]]
    args: dict[str, Any] = {"value": str(given)}
    if code == "param_below":
        args["bound"] = ("> " if param.lo_open else "≥ ") + f"{param.lo:g}"
    elif code == "param_above":
        args["bound"] = ("< " if param.hi_open else "≤ ") + f"{param.hi:g}"
    elif code == "param_choice":
        args["choices"] = ", ".join(param.choices)
    elif code == "param_type":
        args["kind"] = param.kind
    return Problem(code, args, name)


def with_paths(values: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """Parameters with every path in them renamed; what is not as the table wants it stays as it is."""

    def renamed(name: str, value: Any) -> Any:
        kind = PARAMS[name].kind if name in PARAMS and value else None
        if kind == "path":
            return rename(value)
        if kind == "weighted_paths":
            return [_renamed_line(line, rename) for line in value]
        return value

    return {name: renamed(name, value) for name, value in values.items()}


def _renamed_line(line: str, rename: Callable[[str], str]) -> str:
    path, equals, weight = line.rpartition("=")
    return rename(path) + equals + weight if path else line


def _conflicts(params: TrainParams) -> list[Problem]:
    found: list[Problem] = []
    if params.strategy.startswith("deepspeed"):
        # Its processes exchange messages in each pass, so all have to make the same ones.
        sharing = {"with": f"strategy={params.strategy}"}
        if params.infctx:
            found.append(Problem("param_conflict", sharing, "infctx"))
        if params.precision == "fp16":
            found.append(Problem("param_conflict", sharing, "precision"))
        if params.quant != "none" and "stage_3" in params.strategy:
            found.append(Problem("param_conflict", sharing, "quant"))
    if params.lr_schedule == "exponential" and params.lr_final == 0.0:
        found.append(Problem("param_conflict", {"with": "lr_schedule=exponential"}, "lr_final"))
    if params.patience and params.val_fraction == 0.0:
        found.append(Problem("param_conflict", {"with": "val_fraction=0"}, "patience"))
    if params.sample_heldout and params.val_fraction == 0.0:
        found.append(Problem("param_conflict", {"with": "val_fraction=0"}, "sample_heldout"))
    if params.precision not in PRECISIONS.get(params.device, PRECISIONS["cuda"]):
        found.append(Problem("param_conflict", {"with": f"device={params.device}"}, "precision"))
    if params.method == "full" and params.lora_load is not None:
        found.append(Problem("param_conflict", {"with": "method=full"}, "lora_load"))
    if params.method == "full" and params.quant != "none":
        found.append(Problem("param_conflict", {"with": "method=full"}, "quant"))
    if params.epoch_begin >= params.epoch_count:
        found.append(Problem("param_conflict", {"with": f"epoch_count={params.epoch_count}"}, "epoch_begin"))
    return found


def _advice(params: TrainParams) -> list[Problem]:
    return [
        Problem("advice_above", {"value": f"{value:g}", "bound": f"{p.warn_above:g}"}, p.name)
        for p in PARAMS.values()
        if p.warn_above is not None and (value := getattr(params, p.name)) > p.warn_above
    ]


def check(values: Mapping[str, Any]) -> tuple[TrainParams | None, list[Problem]]:
    """Validate a set of parameters.

    Args:
        values: parameter name -> value; missing names take their defaults.

    Returns:
        The parameters (None if any problem is an error) and every problem found, errors first.
    """
    values = dict(values)
    notes = [Problem("dead_switch", {"name": name}) for name in DEAD_SWITCHES if values.pop(name, False)]
    try:
        params = TrainParams.model_validate(values, strict=False)
    except ValidationError as error:
        seen: dict[tuple[Any, ...], Problem] = {}
        for item in error.errors(include_url=False):
            problem = _problem(item, values)
            args = problem.args
            seen.setdefault((problem.code, problem.param, args.get("name"), args.get("value")), problem)
        return None, [*seen.values(), *notes]
    conflicts = _conflicts(params)
    return (None if conflicts else params), [*conflicts, *_advice(params), *notes]


def checked(values: Mapping[str, Any]) -> TrainParams:
    """The parameters, or all their errors at once.

    Raises:
        ParameterError: with every error found.
    """
    params, problems = check(values)
    if params is None:
        raise ParameterError([p for p in problems if p.severity == "error"])
    return params

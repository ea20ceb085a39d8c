"""Memory and time of a run before it starts, and parameters that would fit where these do not. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trainer.contract.params import TrainParams
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import ModelSpec
from trainer.training.duration import step_flops, step_tokens
from trainer.training.estimate import MemoryEstimate, estimate_memory
from trainer.training.machine import Target, computes_in_bytes, target

# Shorter contexts are not worth training on; a suggested one is a multiple of it.
_LEAST_CTX_LEN = 64
# Of what is free, what a suggestion plans with.
SPARED = 0.9


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run needs and what there is.

    Attributes:
        step_s, tok_s: of one device; None where its speed cannot be told beforehand.
        fits: whether the least that the run can do with is free.
        changes: parameters that make it fit, or None if nothing does; empty where it fits.
    """

    target: Target
    memory: MemoryEstimate
    step_s: float | None
    tok_s: float | None
    fits: bool
    changes: dict[str, Any] | None


def plan(infos: Mapping[str, TensorInfo], spec: ModelSpec, params: TrainParams) -> Plan:
    """Estimate a run on what it would compute on."""
    device = target(params)
    memory = _memory(infos, spec, params, device)
    step_s = None
    if device.flops is not None:
        step_s = step_flops(infos, params, memory.recomputed) / device.flops
    fits = memory.least_bytes <= device.available_bytes
    return Plan(
        device, memory, step_s, None if step_s is None else step_tokens(params) / step_s, fits,
        {} if fits else _changes(infos, spec, params, device),
    )  # fmt: skip


def _memory(
    infos: Mapping[str, TensorInfo], spec: ModelSpec, params: TrainParams, device: Target
) -> MemoryEstimate:
    return estimate_memory(
        infos, spec, params, device="cuda" if device.kind == "cuda" else "cpu",
        dtype_bytes=computes_in_bytes(params, device.kind), available_bytes=device.available_bytes,
    )  # fmt: skip


def _changes(
    infos: Mapping[str, TensorInfo], spec: ModelSpec, params: TrainParams, device: Target
) -> dict[str, Any] | None:
    """The mildest changes that fit: recompute, smaller batches, shorter rows, a quantised base; or None."""
    # What is free now may be a little less when the run starts.
    device = replace(device, available_bytes=int(SPARED * device.available_bytes))
    quantised: list[dict[str, Any]] = [{}]
    if params.quant == "none" and params.method != "full":
        quantised.append({"quant": "nf4"})
    for ctx_too in (False, True):
        for more in quantised:
            changes = {} if params.grad_cp else {"grad_cp": True}
            changes |= more
            room = _memory(infos, spec, params.model_copy(update=changes), device).largest_tokens
            changes |= _batch(params, room, ctx_too=ctx_too)
            if (
                _memory(infos, spec, params.model_copy(update=changes), device).least_bytes
                <= device.available_bytes
            ):
                return changes
    return None


def _batch(params: TrainParams, room_tokens: int, *, ctx_too: bool) -> dict[str, Any]:
    """A micro-batch that has room, the accumulation making up for what is taken off it."""
    rows = max(1, min(params.micro_bsz, room_tokens // params.ctx_len))
    changes: dict[str, Any] = {}
    if rows < params.micro_bsz:
        window = params.micro_bsz * params.accumulate_grad_batches
        changes = {"micro_bsz": rows, "accumulate_grad_batches": min(1024, -(-window // rows))}
    if ctx_too and room_tokens < params.ctx_len:
        changes["ctx_len"] = max(_LEAST_CTX_LEN, room_tokens // _LEAST_CTX_LEN * _LEAST_CTX_LEN)
    return changes

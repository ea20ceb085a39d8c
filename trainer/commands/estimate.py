"""`estimate`: the memory and the time that a run will need, without torch and before anything is loaded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from trainer.commands.output import EXIT_BAD_INPUT, EXIT_DONE, open_output
from trainer.commands.train import add_flag, default_cache, given_values
from trainer.contract.events import EventWriter
from trainer.contract.params import PARAMS, TrainParams, checked
from trainer.models.checkpoint import open_checkpoint
from trainer.models.layouts import ModelSpec
from trainer.models.spec import detect_file
from trainer.training.planning import Plan, plan
from trainer.training.schedule import StepPlan

_NO_DATA = "-"


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("estimate", help="say how much memory and time a run needs")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    for param in PARAMS.values():
        add_flag(parser, param)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what a run needs; the status is 2 where the device has not that much free.

    Data need not be given; with it, whole passes over it can be counted too.
    """
    output = open_output()
    params = checked({"data": _NO_DATA, **given_values(args)})
    file = open_checkpoint(Path(params.base_model))
    spec = detect_file(file)
    found = plan(file.infos, spec, params)
    result = as_json(found, _total_steps(params, spec, EventWriter(None, output.feed)))
    if args.json:
        output.result(result)
    else:
        output.stdout.write("".join(f"{line}\n" for line in _lines(result)).encode())
    return EXIT_DONE if found.fits else EXIT_BAD_INPUT


def as_json(found: Plan, total_steps: int | None) -> dict[str, Any]:
    """A plan, and the time of so many steps."""
    memory, device = found.memory, found.target
    known = None not in (found.step_s, total_steps)
    return {
        "device": device.kind, "device_name": device.name, "device_bytes": device.memory_bytes,
        "available_bytes": device.available_bytes, "process_bytes": memory.process_bytes,
        "weights_bytes": memory.weights_bytes, "trained_bytes": memory.trained_bytes,
        "activations_bytes": memory.activations_bytes, "recomputed": memory.recomputed,
        "tight": memory.tight, "total_bytes": memory.total_bytes, "least_bytes": memory.least_bytes,
        "tokens": memory.tokens, "largest_tokens": memory.largest_tokens, "fits": found.fits,
        "changes": found.changes, "tok_s": found.tok_s, "step_s": found.step_s, "total_steps": total_steps,
        "total_s": found.step_s * total_steps if known else None,  # type: ignore[operator]
    }  # fmt: skip


def _total_steps(params: TrainParams, spec: ModelSpec, events: EventWriter) -> int | None:
    """Optimizer steps of the run; None where they depend on data that was not given."""
    rows = 1
    if params.epoch_steps == 0:
        if params.data == _NO_DATA:
            return None
        rows = _rows(params, spec, events)
    step_plan = StepPlan.make(params, rows, params.devices * params.num_nodes)
    return step_plan.total_steps - step_plan.first_step


def _rows(params: TrainParams, spec: ModelSpec, events: EventWriter) -> int:
    from trainer.data.binidx import BinidxReader
    from trainer.data.cache import ensure_converted
    from trainer.data.mixing import mix_in, pack, rows_per_pass
    from trainer.data.records import RenderOptions
    from trainer.data.sampling import split_documents

    prefix, *mixed = (
        ensure_converted(
            Path(path),
            None if params.vocab is None else Path(params.vocab),
            spec.vocab_size,
            default_cache(),
            lambda done, total: events.write(
                "progress", what="convert", done=done, total=total, unit="bytes"
            ),
            options=RenderOptions.make(params.data_columns, params.think),
        )
        for path in (params.data, *(path for path, _ in params.mixed_sources))
    )
    reader = BinidxReader(prefix)
    documents, _ = split_documents(len(reader), params.val_fraction, params.seed)
    n_main = len(pack(reader, documents, params))
    return rows_per_pass(n_main, mix_in(mixed, n_main, params))


def _lines(result: dict[str, Any]) -> list[str]:
    def size(name: str) -> str:
        return f"{result[name] / 1e9:.2f} GB"

    lines = [
        f"device        {result['device_name']}, {size('available_bytes')} of {size('device_bytes')} free",
        *(f"{name:<14}{size(f'{name}_bytes')}" for name in ("process", "weights", "trained", "activations")),
        f"peak          {size('total_bytes')}; at least {size('least_bytes')}",
        f"recomputed    {result['recomputed']}",
        f"tokens        {result['tokens']:,} at once; {result['largest_tokens']:,} would fit",
    ]
    if result["step_s"] is not None:
        lines.append(f"speed         about {result['tok_s']:.0f} tokens/s, {result['step_s']:.2f} s a step")
    if result["total_s"] is not None:
        lines.append(
            f"time          about {result['total_s'] / 60:.0f} min for {result['total_steps']:,} steps"
        )
    if not result["fits"]:
        changes = result["changes"]
        flags = " ".join(f"{name}={value}" for name, value in (changes or {}).items())
        lines.append(
            f"does not fit  {'with ' + flags + ' it would' if changes else 'a smaller model is needed'}"
        )
    return lines

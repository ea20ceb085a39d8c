"""Everything that a run depends on, read and checked before anything is written."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from trainer import __version__
from trainer.adapters.files import Adapter, check_fits, open_adapter, read_adapter, recognised
from trainer.adapters.resize import resized
from trainer.contract.errors import AppError, InputError, Problem
from trainer.contract.events import EventWriter
from trainer.contract.params import TrainParams, with_paths
from trainer.contract.run_folder import Checkpoint, RunFolder, RunRecord
from trainer.data.binidx import BinidxReader, part
from trainer.data.cache import ensure_converted
from trainer.data.records import RenderOptions
from trainer.data.sources import file_sha256
from trainer.models.checkpoint import CheckpointFile, open_checkpoint
from trainer.models.layouts import state_shapes
from trainer.models.spec import ModelSpec, detect_file
from trainer.training.batches import RunData, open_data
from trainer.training.checkpoints import ResumeState, load_state
from trainer.training.device import Device, describe_devices, resolve_device
from trainer.training.drift import DriftProbe, open_general_text
from trainer.training.processes import check_processes, world_size
from trainer.training.schedule import StepPlan
from trainer.training.zero import load_deepspeed, stage


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a train command asks for.

    Attributes:
        params: of a new run, or None to resume with the run's own.
        cache: folder for converted data.
        command: the command line, for run.json.
    """

    run: RunFolder
    params: TrainParams | None
    cache: Path
    command: list[str]


@dataclass(slots=True)
class Opened:
    """Everything that a run needs, checked; nothing has been written yet."""

    params: TrainParams
    device: Device
    base: CheckpointFile
    spec: ModelSpec
    adapter: Adapter | None
    data: RunData
    prefix: Path
    plan: StepPlan
    record: RunRecord | None
    resume: tuple[Checkpoint, ResumeState] | None
    general: BinidxReader | None
    drift: DriftProbe | None = None  # once the base is loaded


def open_run(request: RunRequest, events: EventWriter) -> Opened:
    """Read and check everything that the run depends on."""
    record = request.run.read() if request.params is None else None
    if request.params is None:
        if record is None:
            raise InputError("run_not_found", path=str(request.run.path))
        params = TrainParams.model_validate(record.params)
    else:
        params = request.params
    check_processes(params)
    device = resolve_device(params)
    if stage(params):
        load_deepspeed(device.kind)
    base_path = Path(params.base_model)
    base = open_checkpoint(base_path)
    spec = detect_file(base)
    if params.method == "state" and not state_shapes(spec):
        raise InputError("model_method", path=str(base_path), generation=spec.generation, method="state")
    adapter = None if params.lora_load is None else _adapter_to_go_on(params.lora_load, base, params, events)
    events.write("phase", name="reading_data")
    prefix, *mixed = (
        ensure_converted(
            Path(path),
            None if params.vocab is None else Path(params.vocab),
            spec.vocab_size,
            request.cache,
            lambda done, total: events.write(
                "progress", what="convert", done=done, total=total, unit="bytes"
            ),
            lambda problem: _warn(events, problem),
            RenderOptions.make(params.data_columns, params.think),
        )
        for path in (params.data, *(path for path, _ in params.mixed_sources))
    )
    data = open_data(prefix, params, spec.vocab_size, mixed)
    plan = StepPlan.make(params, data.rows_per_pass, world_size(params))
    resume = None
    if record is not None:
        _check_unchanged(record, params, base, data)
        resume = _last_whole_checkpoint(request.run, events)
    general = open_general_text(params, spec.vocab_size, request.cache)
    return Opened(params, device, base, spec, adapter, data, prefix, plan, record, resume, general)


def _adapter_to_go_on(path: str, base: CheckpointFile, params: TrainParams, events: EventWriter) -> Adapter:
    """The adapter to go on with, at the rank that was asked for."""
    opened = open_adapter(path)
    check_fits(opened, base.infos, base.path)
    if opened.meta is None:
        _warn(events, recognised(opened))
    adapter = opened.load()
    if not params.lora_resize:
        return adapter
    adapter, lost = resized(adapter, params.lora_r, base.infos, params.seed)
    if lost > 0.0:
        facts = {"r": params.lora_r, "old": opened.rank, "lost": f"{lost:.2%}"}
        _warn(events, Problem("adapter_truncated", facts))
    return adapter


def _warn(events: EventWriter, problem: Problem) -> None:
    events.write("warning", code=problem.code, args=dict(problem.args))


def _check_unchanged(record: RunRecord, params: TrainParams, base: CheckpointFile, data: RunData) -> None:
    if base.sha256() != record.base_sha256:
        raise InputError("base_changed", path=str(base.path))
    if data_sha256(data.reader) != record.data_sha256:
        raise InputError("data_changed", path=record.data_name)
    hashes = zip(params.mixed_sources, data.mixed, record.mixed_sha256, strict=True)
    for (path, _), source, recorded in hashes:
        if data_sha256(source.reader) != recorded:
            raise InputError("data_changed", path=path)


def _last_whole_checkpoint(run: RunFolder, events: EventWriter) -> tuple[Checkpoint, ResumeState] | None:
    """The newest checkpoint that can be read; None starts the run from its first step again."""
    for checkpoint in reversed(run.checkpoints()):
        if not checkpoint.state.exists():
            continue
        try:
            read_adapter(checkpoint.adapter)
            return checkpoint, load_state(checkpoint)
        except AppError as error:
            args = {"path": str(checkpoint.path), "reason": error.problem.args.get("reason", error.code)}
            events.write("warning", code="checkpoint_unreadable", args=args)
    return None


def new_record(request: RunRequest, opened: Opened) -> RunRecord:
    params, meta = opened.params, opened.data.reader.meta
    return RunRecord(
        run_id=request.run.run_id,
        created_ts=time.time(),
        params=_with_whole_paths(params).as_json(),
        base_name=opened.base.path.name,
        base_bytes=opened.base.nbytes,
        base_sha256=opened.base.sha256(),
        generation=opened.spec.generation,
        data_name=meta.data_name if meta is not None else Path(params.data).name,
        data_sha256=data_sha256(opened.data.reader),
        data_tokens=opened.data.reader.tokens,
        data_documents=len(opened.data.reader),
        mixed_sha256=tuple(data_sha256(source.reader) for source in opened.data.mixed),
        total_steps=opened.plan.total_steps,
        versions=versions(),
        machine={"system": platform.platform(), "devices": describe_devices(opened.device.kind)},
        command=request.command,
    )


def _with_whole_paths(params: TrainParams) -> TrainParams:
    """The parameters as they can be used from any folder, for a resume."""
    return TrainParams.model_validate(with_paths(params.as_json(), lambda path: str(Path(path).resolve())))


def data_sha256(reader: BinidxReader) -> str:
    """The hash of the data as it was given; of the tokens where nothing says what they came from."""
    return file_sha256(part(reader.prefix, "bin")) if reader.meta is None else reader.meta.data_sha256


def versions() -> dict[str, str]:
    return {
        "trainer": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("pytorch-lightning"),
    }

"""A whole run: from parameters and files to a finished run folder, or from a run folder onwards."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import pytorch_lightning as pl
import torch

from trainer.contract.errors import AppError
from trainer.contract.events import EventWriter
from trainer.contract.files import write_json
from trainer.contract.run_folder import RunFolder, RunRecord
from trainer.training.assembly import assemble, load_base
from trainer.training.batches import Windows
from trainer.training.causes import coded_errors
from trainer.training.checkpoints import remove_leftovers
from trainer.training.control import Control, obey_signals
from trainer.training.device import describe_devices, use_precision
from trainer.training.failure import fail
from trainer.training.heap import keep_tight
from trainer.training.logs import logging_to
from trainer.training.loop import Progress, RunLoop
from trainer.training.module import TrainModule
from trainer.training.monitor import Heartbeat, Speed
from trainer.training.opening import Opened, RunRequest, new_record, open_run, versions
from trainer.training.planning import plan
from trainer.training.processes import Child, Others, is_first, local_rank, rank, shares_of_data
from trainer.training.strategy import make_strategy

# What a run ended as, and its finished steps.
Outcome = tuple[str, int]


def train(request: RunRequest, events: EventWriter, control: Control) -> Outcome:
    """Run a request to its end.

    Returns:
        ("completed" or "stopped", finished steps).

    Raises:
        InputError: something is wrong with parameters or files; nothing was changed.
        AppError: the run failed; what was saved is kept.
    """
    started_s = time.monotonic()
    opened = open_run(request, events)
    first = is_first()
    for note in (*opened.device.notes, *opened.data.notes, *shares_of_data(opened.params)):
        events.write("warning", code=note.code, args=dict(note.args))
    record = opened.record or new_record(request, opened)
    _hello(events, record, opened)
    if first:
        if opened.record is None:
            request.run.write(record)
        remove_leftovers(request.run)
        # It tells how the run ended before; should this process be killed, the run was interrupted.
        request.run.summary_json.unlink(missing_ok=True)
    expected_step_s = _estimate(opened, events)
    events.write("phase", name="loading_model")
    if opened.device.kind == "cuda":
        torch.cuda.set_device(local_rank())
    use_precision(opened.device)
    logs = logging_to(request.run, opened.params, events) if first else nullcontext()
    with coded_errors():
        model = load_base(opened, events)
        module, loop = assemble(request.run, opened, record, model, events, control)
        loop.speed = Speed(expected_step_s)
        with logs, _heartbeat(events), _terminations(control):
            _fit(module, loop, opened, request.run)
    status = "stopped" if loop.progress.stopped and loop.progress.reason != "patience" else "completed"
    events.write("phase", name="finishing")
    if first:
        _write_summary(request.run, status, module.step, loop.progress, time.monotonic() - started_s)
    return status, module.step


def _estimate(opened: Opened, events: EventWriter) -> float | None:
    """Tell what the run will need, and keep the heap tight where memory is short; seconds a step."""
    params = opened.params.model_copy(update={"device": opened.device.kind})
    planned = plan(opened.base.infos, opened.spec, params)
    first = opened.plan.first_step if opened.resume is None else opened.resume[1].step
    left = opened.plan.total_steps - first
    events.write(
        "estimate", step=first, peak_bytes=planned.memory.total_bytes, step_s=planned.step_s, measured=False,
        available_bytes=planned.target.available_bytes,
        left_s=None if planned.step_s is None else left * planned.step_s,
    )  # fmt: skip
    if planned.memory.tight:
        keep_tight()
    return planned.step_s


def _hello(events: EventWriter, record: RunRecord, opened: Opened) -> None:
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    events.write(
        "hello",
        run_id=record.run_id,
        pid=os.getpid(),
        pgid=os.getpgrp() if hasattr(os, "getpgrp") else None,
        start_ts=psutil.Process().create_time(),
        boot_id=boot_id.read_text().strip() if boot_id.exists() else None,
        devices=describe_devices(opened.device.kind),
        resumed_from=None if opened.record is None else (opened.resume[1].step if opened.resume else 0),
        total=opened.plan.total_steps,
        steps_per_epoch=opened.plan.steps_per_epoch,
        **{name: value for name, value in versions().items() if name != "lightning"},
    )


def _fit(module: TrainModule, loop: RunLoop, opened: Opened, run: RunFolder) -> None:
    params = opened.params
    windows = Windows(
        opened.data,
        opened.plan,
        seed=params.seed,
        rank=rank(params.devices),
        first=module.step,
        device=opened.device.kind,
    )
    if not len(windows):
        return
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Lightning's advice is about loaders, loggers and checkpoints that this project has its own of.
        warnings.filterwarnings("ignore", module=r"(pytorch_)?lightning")
        trainer = pl.Trainer(
            accelerator="gpu" if opened.device.kind == "cuda" else "cpu",
            devices=params.devices,
            num_nodes=params.num_nodes,
            strategy=make_strategy(params, opened.device),
            max_epochs=1,
            callbacks=[loop],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        launcher = trainer.strategy.launcher
        with _others(lambda: getattr(launcher, "procs", ()), run, loop.events):
            trainer.fit(module, train_dataloaders=windows)


@contextmanager
def _others(children: Callable[[], Sequence[Child]], run: RunFolder, events: EventWriter) -> Iterator[None]:
    """Ends the run where one of the processes that this one has started fails."""

    def end(error: AppError) -> None:
        # This process waits for a message that will never come, and cannot be made to stop waiting.
        fail(run, events, error)
        events.write("bye", status="failed", step=None, reason=error.code)
        sys.stderr.write(f"error[{error.code}]: {error}\n")
        os._exit(1)

    others, failed = Others(children, end), True
    try:
        with coded_errors(others.lost):
            yield
        failed = False
    finally:
        others.close(failed=failed)


@contextmanager
def _heartbeat(events: EventWriter) -> Iterator[None]:
    heartbeat = Heartbeat(events)
    try:
        yield
    finally:
        heartbeat.close()


@contextmanager
def _terminations(control: Control) -> Iterator[None]:
    """SIGTERM and Ctrl+C save and stop; Lightning's own handler would end the run with status 0, unsaved."""

    before = obey_signals(control)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_summary(run: RunFolder, status: str, step: int, progress: Progress, seconds: float) -> None:
    write_json(
        run.summary_json,
        {
            "status": status, "reason": progress.reason, "step": step, "tokens": progress.tokens,
            "loss": progress.last_loss, "best_val_loss": progress.best, "seconds": round(seconds, 3),
        },
    )  # fmt: skip

"""A whole run: from parameters and files to a finished run folder, or from a run folder onwards."""

from __future__ import annotations

import logging
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from trainer.training.checkpoints import remove_leftovers
from trainer.training.control import Control, obey_signals
from trainer.training.device import describe_devices
from trainer.training.logs import logging_to
from trainer.training.loop import Progress, RunLoop
from trainer.training.module import TrainModule
from trainer.training.monitor import Heartbeat
from trainer.training.opening import Opened, RunRequest, new_record, open_run, versions
from trainer.training.strategy import make_strategy, rank

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
    for note in (*opened.device.notes, *opened.data.notes):
        events.write("warning", code=note.code, args=dict(note.args))
    record = opened.record or new_record(request, opened)
    _hello(events, record, opened)
    if rank() == 0:
        if opened.record is None:
            request.run.write(record)
        remove_leftovers(request.run)
        # It tells how the run ended before; should this process be killed, the run was interrupted.
        request.run.summary_json.unlink(missing_ok=True)
    events.write("phase", name="loading_model")
    with _memory_errors():
        model = load_base(opened, events)
        module, loop = assemble(request.run, opened, record, model, events, control)
        with logging_to(request.run, opened.params, events), _heartbeat(events), _terminations(control):
            _fit(module, loop, opened)
    status = "stopped" if loop.progress.stopped and loop.progress.reason != "patience" else "completed"
    events.write("phase", name="finishing")
    if rank() == 0:
        _write_summary(request.run, status, module.step, loop.progress, time.monotonic() - started_s)
    return status, module.step


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


def _fit(module: TrainModule, loop: RunLoop, opened: Opened) -> None:
    params = opened.params
    windows = Windows(
        opened.data, opened.plan, seed=params.seed, rank=rank(), first=module.step, device=opened.device.kind
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
        trainer.fit(module, train_dataloaders=windows)


# What PyTorch's CPU allocator and the GPU's libraries say instead of raising an error of their own.
_RAM_TEXT = "DefaultCPUAllocator"
_VRAM_TEXTS = ("ALLOC_FAILED", "out of memory")


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Tells by its code which memory has run out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise AppError("oom_vram") from error
    except MemoryError as error:
        raise AppError("oom_ram") from error
    except RuntimeError as error:
        if _RAM_TEXT in str(error):
            raise AppError("oom_ram") from error
        if any(text in str(error) for text in _VRAM_TEXTS):
            raise AppError("oom_vram") from error
        raise


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

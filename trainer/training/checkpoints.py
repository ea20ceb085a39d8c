"""Saving a run so that it goes on exactly, and finding the newest save that is whole."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.adapters.files import write_adapter
from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import AppError
from trainer.contract.files import atomic_write, disk_error, fsync_folder, write_json
from trainer.contract.run_folder import Checkpoint, CheckpointMeta, RunFolder

# The optimizer's state is needed in the newest checkpoint, and in the one before in case that is damaged.
STATES_KEPT = 2


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What training needs beside the adapter to go on bit by bit.

    Attributes:
        step: finished optimizer steps. tokens: trained tokens so far.
        best: lowest validation loss. bad_evals: evaluations since then.
    """

    step: int
    tokens: int
    best: float | None
    bad_evals: int
    optimizer: dict[str, Any]
    scaler: dict[str, Any]


def save_checkpoint(
    run: RunFolder,
    *,
    tensors: dict[str, Tensor],
    adapter_meta: AdapterMeta,
    state: ResumeState,
    kind: str,
    val_loss: float | None,
    keep_last: int,
) -> Checkpoint:
    """Write `ckpt/<step>/` under a temporary name, rename it, then remove what is no longer kept.

    Raises:
        AppError: `disk_full` or `not_writable`; earlier checkpoints are untouched.
    """
    final = run.checkpoint_folder(state.step)
    existing = next((c for c in run.checkpoints() if c.path == final), None)
    if existing is not None:
        return _add_kind(existing, kind, val_loss)
    temporary = final.with_name(f"{final.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_adapter(temporary / "adapter.pth", tensors, adapter_meta)
        with atomic_write(temporary / "state.pt") as file:
            torch.save({name: getattr(state, name) for name in ResumeState.__slots__}, file)
        meta = CheckpointMeta(
            step=state.step, epoch=adapter_meta.epoch, kind=kind, kinds=(kind,), tokens=state.tokens,
            loss=adapter_meta.loss, val_loss=val_loss, created_ts=time.time(),
            bytes=(temporary / "adapter.pth").stat().st_size,
        )  # fmt: skip
        write_json(temporary / "meta.json", meta.model_dump(mode="json"))
        temporary.rename(final)
        fsync_folder(run.ckpt)
    except AppError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    except (OSError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _write_error(error, final) from error
    _prune(run, keep_last)
    return Checkpoint(final, meta)


def _write_error(error: OSError | RuntimeError, path: Path) -> AppError:
    # torch's zip writer reports a full disk as a RuntimeError of its own, with the OSError as context.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return disk_error(cause, path)
        cause = cause.__context__
    free = shutil.disk_usage(path.parent if path.parent.exists() else path.parent.parent).free
    if free < 1 << 20:
        return AppError("disk_full", path=str(path))
    return AppError("not_writable", path=str(path), reason=str(error))


def _add_kind(checkpoint: Checkpoint, kind: str, val_loss: float | None) -> Checkpoint:
    kinds = tuple(dict.fromkeys((*checkpoint.meta.kinds, kind)))
    meta = checkpoint.meta.model_copy(
        update={
            "kinds": kinds,
            "kind": kind,
            "val_loss": val_loss if val_loss is not None else checkpoint.meta.val_loss,
        }
    )
    write_json(checkpoint.path / "meta.json", meta.model_dump(mode="json"))
    return Checkpoint(checkpoint.path, meta)


def _prune(run: RunFolder, keep_last: int) -> None:
    """Keep the last `keep_last`, the newest best one and what the user saved; old states go first."""
    checkpoints = run.checkpoints()
    best = [c for c in checkpoints if "best" in c.meta.kinds][-1:]
    manual = [c for c in checkpoints if "manual" in c.meta.kinds]
    kept = {c.path for c in (*checkpoints[-keep_last:], *best, *manual)}
    for checkpoint in checkpoints[:-STATES_KEPT]:
        checkpoint.state.unlink(missing_ok=True)
    for checkpoint in checkpoints:
        if checkpoint.path not in kept:
            # First what makes it a checkpoint: killed in the middle of this, no broken one is left.
            (checkpoint.path / "meta.json").unlink()
            shutil.rmtree(checkpoint.path)


def remove_leftovers(run: RunFolder) -> None:
    """Remove what a process that was killed while saving or removing has left of checkpoints.

    A folder whose meta.json is there and cannot be understood is something else, and stays.
    """
    for folder in run.ckpt.iterdir() if run.ckpt.is_dir() else ():
        whole = folder.name.isdigit() and (folder / "meta.json").exists()
        if not whole and folder.name.removesuffix(".tmp").isdigit():
            shutil.rmtree(folder)


def load_state(checkpoint: Checkpoint) -> ResumeState:
    """Read `state.pt` (tensors and plain values only).

    Raises:
        AppError: `checkpoint_unreadable`.
    """
    try:
        raw = torch.load(checkpoint.state, map_location="cpu", weights_only=True)
        return ResumeState(**{name: raw[name] for name in ResumeState.__slots__})
    except Exception as error:
        raise AppError("checkpoint_unreadable", path=str(checkpoint.path), reason=str(error)[:200]) from error

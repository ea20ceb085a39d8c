"""The run folder: everything that a page shows of a run, and everything that a resume needs.

runs/20260104-142233-roleplay/
    run.json        frozen parameters, base, data, versions, machine, command
    events.jsonl    every event (the truth)
    control.jsonl   commands of a window that has no pipe to the trainer
    train.log       what third parties printed
    metrics.csv     the numbers of each step, for other programs
    tensorboard/    the same for TensorBoard, where asked for
    run.lock        held by the trainer while it lives
    ckpt/000500/    adapter.pth, adapter.json, state.pt, meta.json
    summary.json    how it ended
    notes.json      what the person calls it and notes about it
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.contract.errors import AppError
from trainer.contract.files import write_json

_LOCK_WAIT_S = 1.0
_Record = TypeVar("_Record", bound=BaseModel)
RunStatus = Literal["running", "completed", "stopped", "failed", "interrupted"]
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}


class RunRecord(BaseModel):
    """`run.json`: what a run was started with. Pages draw from it, never from the form."""

    model_config = ConfigDict(extra="ignore")

    schema_version: int = 1
    run_id: str
    created_ts: float
    params: dict[str, Any]
    base_name: str
    base_bytes: int
    base_sha256: str
    generation: str
    data_name: str
    data_sha256: str
    data_tokens: int
    data_documents: int
    mixed_sha256: tuple[str, ...] = ()
    total_steps: int
    versions: dict[str, str]
    machine: dict[str, Any]
    command: list[str]
    parent_run: str | None = None


class RunNotes(BaseModel):
    """`notes.json`: a person's own words about a run. Nothing is lost without it."""

    model_config = ConfigDict(extra="ignore")

    name: str = ""
    note: str = ""


class CheckpointMeta(BaseModel):
    """`ckpt/<step>/meta.json`; written last, so a checkpoint without it is not one."""

    model_config = ConfigDict(extra="ignore")

    step: int
    epoch: int
    kind: str
    kinds: tuple[str, ...] = ()
    tokens: int
    loss: float | None = None
    val_loss: float | None = None
    created_ts: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    path: Path
    meta: CheckpointMeta

    @property
    def adapter(self) -> Path:
        return self.path / "adapter.pth"

    @property
    def state(self) -> Path:
        return self.path / "state.pt"


class RunFolder:
    """Paths and small files of one run. Reading never needs the trainer to live."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.run_json = self.path / "run.json"
        self.events = self.path / "events.jsonl"
        self.control = self.path / "control.jsonl"
        self.log = self.path / "train.log"
        self.metrics_csv = self.path / "metrics.csv"
        self.tensorboard = self.path / "tensorboard"
        self.lock_file = self.path / "run.lock"
        self.ckpt = self.path / "ckpt"
        self.summary_json = self.path / "summary.json"
        self.notes_json = self.path / "notes.json"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunFolder) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def run_id(self) -> str:
        return self.path.name

    def read(self) -> RunRecord | None:
        """The run's record, or None where there is none that can be read."""
        return _read_record(self.run_json, RunRecord)

    def write(self, record: RunRecord) -> None:
        write_json(self.run_json, record.model_dump(mode="json"))

    def summary(self) -> dict[str, Any] | None:
        return _read_json(self.summary_json)

    def notes(self) -> RunNotes:
        """What the person has written; nothing where that is nothing or cannot be read."""
        return _read_record(self.notes_json, RunNotes) or RunNotes()

    def write_notes(self, notes: RunNotes) -> None:
        """Keep what the person has written.

        Raises:
            AppError: `disk_full` or `not_writable`.
        """
        write_json(self.notes_json, notes.model_dump(mode="json"))

    def bytes_on_disk(self) -> int:
        """What deleting the run frees."""
        return sum(path.lstat().st_size for path in self.path.rglob("*") if not path.is_dir())

    def lock(self) -> FileLock:
        """Take the run for this process.

        Raises:
            AppError: `run_in_use`, another process trains in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.lock_file)
        try:
            # `is_running` takes it too, for an instant: that must not look like another trainer.
            lock.acquire(timeout=_LOCK_WAIT_S, poll_interval=0.05)
        except Timeout as error:
            raise AppError("run_in_use", path=str(self.path)) from error
        return lock

    def is_running(self) -> bool:
        """Whether a trainer holds the run; the lock ends with its process, however that ended."""
        try:
            return self.lock_file.exists() and _is_held(self.lock_file)
        except FileNotFoundError:  # deleted in between
            return False

    def status(self, summary: dict[str, Any] | None = None) -> RunStatus:
        """Where the run stands; its summary need not be read again by who has it."""
        if self.is_running():
            return "running"
        summary = self.summary() if summary is None else summary
        if summary is not None and summary.get("status") in ("completed", "stopped", "failed"):
            return summary["status"]
        return "interrupted"

    def checkpoints(self) -> list[Checkpoint]:
        """All complete checkpoints, oldest first."""
        return sorted(self._checkpoints(), key=lambda c: c.meta.step)

    def _checkpoints(self) -> Iterator[Checkpoint]:
        if not self.ckpt.is_dir():
            return
        for folder in self.ckpt.iterdir():
            meta = _read_record(folder / "meta.json", CheckpointMeta) if folder.name.isdigit() else None
            if meta is not None:
                yield Checkpoint(folder, meta)

    def checkpoint_folder(self, step: int) -> Path:
        return self.ckpt / f"{step:06d}"

    def send(self, command: dict[str, Any]) -> None:
        """Append a command for the trainer; it looks for them at every step."""
        with open(self.control, "ab") as file:
            file.write(json.dumps(command, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def delete(self) -> None:
        """Remove the run and all that it holds.

        Raises:
            AppError: `run_in_use`.
        """
        if self.is_running():
            raise AppError("run_in_use", path=str(self.path))
        shutil.rmtree(self.path)


def safe_name(name: str, limit_bytes: int = 64) -> str:
    """A folder name that every file system takes: no reserved names, no trailing dots, at most 64 bytes."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\s]+', "-", name).strip("-. ")
    name = name.encode("utf-8", errors="ignore")[:limit_bytes].decode("utf-8", errors="ignore").rstrip("-. ")
    return f"_{name}" if name.split(".")[0].lower() in _RESERVED else (name or "run")


def run_id_for(name: str, now_ts: float | None = None) -> str:
    """The name of the run folder that a run begun at a time (now) gets, as long as that is free."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now_ts))}-{safe_name(name)}"


def new_run_folder(root: Path, name: str, now_ts: float | None = None) -> RunFolder:
    """Make an empty run folder `<time>-<name>` under `root`; a number is added where it exists.

    Raises:
        AppError: `not_writable`.
    """
    stem = run_id_for(name, now_ts)
    for number in range(1, 1000):
        path = Path(root) / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise AppError("not_writable", path=str(path), reason=error.strerror or str(error)) from error
        return RunFolder(path)
    raise AppError("run_exists", path=str(Path(root) / stem))


if sys.platform == "win32":

    def _is_held(path: Path) -> bool:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

else:
    import fcntl

    def _is_held(path: Path) -> bool:
        # What FileLock does too, at a tenth of the time: lists ask this of a thousand runs. A shared lock is
        # enough to see an exclusive one, and two who look do not take each other for a trainer.
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None


def _read_record(path: Path, kind: type[_Record]) -> _Record | None:
    """What a file holds, or None where that cannot be read or is something else."""
    raw = _read_json(path)
    with suppress(ValidationError):
        return None if raw is None else kind.model_validate(raw)
    return None

"""What models and adapters lie on disk: asked of the trainer, which alone can tell; copied and hashed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from runner_gui.model.shelf import shelf_entry
from runner_gui.services.background import Background
from runner_gui.services.commands import trainer_command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.process import JobProcess
from trainer.contract.errors import AppError, Problem
from trainer.contract.files import disk_error, fsync_folder

BLOCK_BYTES = 8 << 20


class Shelf(QObject):
    """Looks at folders through `rwkv-trainer models`, so that nothing here has to understand a file.

    Signals:
        changed(list): every `ShelfEntry` there is, after a look.
        failed(object): a Problem; what was known stays.
    """

    changed = Signal(list)
    failed = Signal(object)

    def __init__(self, interpreter: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._interpreter = interpreter
        self._job: JobProcess | None = None
        self._again: tuple[Path, ...] | None = None

    def look(self, folders: Sequence[Path]) -> None:
        """Look at these folders; while a look is under way, once more after it."""
        there = tuple(folder for folder in folders if folder.is_dir())
        if self._job is not None:
            self._again = there
        elif not there:
            self.changed.emit([])
        else:
            command = trainer_command(self._interpreter, "models", "--json", "--", *map(str, there))
            self._job = JobProcess(command, self)
            self._job.finished.connect(self._on_finished)
            self._job.start()

    def close(self) -> None:
        """End a look that is under way."""
        self._again = None
        if self._job is not None:
            self._job.close()

    def _on_finished(self, outcome: JobOutcome) -> None:
        if self._job is not None:
            self._job.deleteLater()
            self._job = None
        if outcome.result is not None and "models" in outcome.result:
            self.changed.emit([shelf_entry(raw) for raw in outcome.result["models"]])
        elif outcome.status == "failed":
            self.failed.emit(outcome.problem)
        again, self._again = self._again, None
        if again is not None:
            self.look(again)


class FileWork(QObject):
    """Long work on one file after the other, with progress.

    Signals:
        progressed(int, int): bytes done and bytes in all. hashed(object, str): a path and its SHA-256.
        copied(object): the new file. failed(object): a Problem. idle(): nothing is left to do.
    """

    progressed = Signal(int, int)
    hashed = Signal(object, str)
    copied = Signal(object)
    failed = Signal(object)
    idle = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._background = Background(self)
        self._cancelled = False
        self._left = 0

    @property
    def is_busy(self) -> bool:
        return self._left > 0

    def hash(self, path: Path) -> None:
        """Compute the SHA-256 of a file."""
        self._submit(lambda: self._hash(path), lambda digest: self.hashed.emit(path, digest))

    def copy_in(self, source: Path, folder: Path) -> None:
        """Copy a file into a folder, under its name or one with a number where that is taken."""
        self._submit(lambda: self._copy(source, folder), self.copied.emit)

    def cancel(self) -> None:
        """Give up what is under way; nothing half-made stays."""
        self._cancelled = self.is_busy

    def close(self) -> None:
        self.cancel()
        self._background.close()

    def _submit(self, work: Callable[[], object], then: Callable[[object], None]) -> None:
        self._left += 1
        self._background.submit(work, lambda outcome: self._end(outcome, then))

    def _end(self, outcome: object, then: Callable[[object], None]) -> None:
        self._left -= 1
        if isinstance(outcome, AppError):
            self.failed.emit(outcome.problem)
        elif isinstance(outcome, Exception):
            self.failed.emit(Problem("internal", {"detail": str(outcome)}))
        elif outcome is not None:
            then(outcome)
        if not self._left:
            self._cancelled = False
            self.idle.emit()

    def _hash(self, path: Path) -> str | None:
        digest = hashlib.sha256()
        return digest.hexdigest() if self._stream(path, digest.update) else None

    def _copy(self, source: Path, folder: Path) -> Path | None:
        target = _free_name(folder / source.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(folder).free < source.stat().st_size:
                raise AppError("disk_full", path=str(folder))
            # The leading dot keeps every list of models from seeing half a file.
            handle, name = tempfile.mkstemp(prefix=".importing-", suffix=source.suffix, dir=folder)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    whole = self._stream(source, file.write)
                    file.flush()
                    os.fsync(file.fileno())
                if whole:
                    temporary.chmod(0o644)
                    temporary.replace(target)
                    fsync_folder(folder)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, target) from error
        return target if whole else None

    def _stream(self, path: Path, take: Callable[[bytes], object]) -> bool:
        """Hand a file on in blocks; False where that was cancelled."""
        done = 0
        try:
            with open(path, "rb") as file:
                total = os.fstat(file.fileno()).st_size
                while block := file.read(BLOCK_BYTES):
                    if self._cancelled:
                        return False
                    take(block)
                    done += len(block)
                    self.progressed.emit(done, total)
        except FileNotFoundError as error:
            raise AppError("model_not_found", path=str(path)) from error
        return True


def _free_name(path: Path) -> Path:
    number, free = 2, path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free

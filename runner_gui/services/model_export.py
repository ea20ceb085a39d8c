"""A model in another format, made by the trainer where it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from runner_gui.model.problems import AnyProblem, as_problem
from runner_gui.services import commands
from runner_gui.services.chain_steps import raise_unless_done
from runner_gui.services.jobs import WorkerJobs
from runner_gui.services.place import Here, Place
from trainer.contract.errors import Problem
from trainer.contract.events import Event
from trainer.contract.files import disk_error
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.hosts.base import HostError
from wsl_bootstrap.step import Progress, StepError

_ENDS_S = 10.0


class ModelExport(QObject):
    """Writes one model at a time.

    Signals:
        progressed(object, object): bytes done, and in all or None. finished(object): the new file.
        failed(object): a Problem or Code. ended(): it is over, in whatever way.
    """

    progressed = Signal(object, object)
    finished = Signal(object)
    failed = Signal(object)
    ended = Signal()

    _done = Signal(object)

    def __init__(self, place: Place | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._place = place or Here()
        self._jobs = WorkerJobs(self)
        self._worker: tuple[threading.Thread, CancelToken] | None = None
        self._done.connect(self._on_done)

    @property
    def is_busy(self) -> bool:
        return self._worker is not None

    def start(self, model: Path, output: Path, dtype: str | None = None) -> None:
        """Write a model to a file that must not exist; its name says the format."""
        if self._worker is not None:
            return
        cancel = CancelToken()
        thread = threading.Thread(target=self._work, args=(model, output, dtype, cancel), daemon=True)
        self._worker = thread, cancel
        thread.start()

    def cancel(self) -> None:
        """Give it up; nothing half-made stays."""
        if self._worker is not None:
            self._worker[1].cancel()

    def close(self) -> None:
        """Give it up, and wait for its end."""
        worker = self._worker
        self.cancel()
        self._jobs.close()
        if worker is not None:
            worker[0].join(_ENDS_S)

    def _work(self, model: Path, output: Path, dtype: str | None, cancel: CancelToken) -> None:
        """In a thread of its own."""

        def on_item(item: Event | str) -> None:
            if isinstance(item, Event) and item.t == "progress":
                self.progressed.emit(item.get("done") or 0, item.get("total"))

        outcome: Path | AnyProblem | None = output
        try:
            name = self._place.bring([model], self._tell(), cancel)
            args = commands.export_args(model, self._place.result_name(output), dtype, name)
            raise_unless_done(self._jobs.run(self._place.trainer(args, output), on_item, cancel))
            self._place.deliver(output, self._tell(), cancel)
        except CancelledError:
            outcome = None
        except (StepError, HostError) as error:
            outcome = error.code
        except OSError as error:
            outcome = disk_error(error, output).problem
        self._done.emit(outcome)

    def _tell(self) -> Callable[[object], None]:
        def tell(said: object) -> None:
            if isinstance(said, Progress):
                self.progressed.emit(said.done, said.total)

        return tell

    def _on_done(self, outcome: Path | AnyProblem | None) -> None:
        self._worker = None
        if isinstance(outcome, Path):
            self.finished.emit(outcome)
        elif outcome is not None:
            # The trainer's own codes come as the engine carries them.
            self.failed.emit(outcome if isinstance(outcome, Problem) else as_problem(outcome))
        self.ended.emit()

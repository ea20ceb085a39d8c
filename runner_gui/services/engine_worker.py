"""The engine's thread: what it is given to do, one thing after the other, and what it asks and tells."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from runner_gui.model.problems import AnyProblem
from trainer.contract.errors import AppError, Problem
from trainer.contract.files import disk_error
from wsl_bootstrap.cancel import CancelledError
from wsl_bootstrap.engine import Engine
from wsl_bootstrap.hosts.base import HostError
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan

LOG = logging.getLogger(__name__)
# What stands in the way (None: nothing), and the problem that ended the work before it could tell.
Then = Callable[["Status | None", "AnyProblem | None"], None]


class EngineWorker(QObject):
    """Runs the engine beside the event loop. Its own methods belong to the event loop's thread.

    Args:
        folder: the work folder, named where a disk fails.

    Signals:
        said: a Transition or StepEvent.
        looked: the plans for what is missing, after a look at every step.
        consent_needed: plans that cost something; the engine waits for `answer`.
    """

    said = Signal(object)
    looked = Signal(object)
    consent_needed = Signal(object)
    _done = Signal(object)

    def __init__(self, engine: Engine[Any], folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._engine = engine
        self._folder = folder
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pipeline")
        self._under_way = 0
        self._done.connect(self._on_done)
        engine.subscribe(self.said.emit)

    @property
    def is_working(self) -> bool:
        """Whether something that was submitted is not done yet; looking does not count."""
        return self._under_way > 0

    def look(self) -> None:
        """Probe every step."""
        self._pool.submit(self._caught, self._probe_all)

    def submit(self, work: Callable[[], Status | None], then: Then) -> None:
        """Do `work` in the engine's thread, and `then` in this one.

        Args:
            work: returns what stands in the way, or None.
        """
        self._answers = queue.SimpleQueue()
        self._under_way += 1
        self._pool.submit(lambda: self._done.emit((*self._caught(work), then)))

    def ask(self, plans: tuple[Plan, ...]) -> bool:
        """In the engine's thread: hand plans over to the person and wait for the answer."""
        self.consent_needed.emit(plans)
        return self._answers.get()

    def answer(self, agreed: bool) -> None:
        self._answers.put(agreed)

    def cancel(self) -> None:
        """End what is under way, a question included."""
        self._answers.put(False)
        self._engine.cancel()

    def wait(self) -> None:
        """Take no more work and wait for the end of what was cancelled before."""
        self._pool.shutdown(wait=True)

    def _probe_all(self) -> None:
        self._engine.probe_all()
        self.looked.emit(self._engine.forecast())

    def _caught(self, work: Callable[[], Status | None]) -> tuple[Status | None, AnyProblem | None]:
        """Do the work; nothing may vanish at the edge of the thread."""
        try:
            return work(), None
        except AppError as error:
            return None, error.problem
        except HostError as error:
            return None, error.code
        except CancelledError:
            LOG.info("the work was called off")
            return None, None
        except OSError as error:
            LOG.warning("the pipeline cannot write", exc_info=True)
            return None, disk_error(error, Path(error.filename or self._folder)).problem
        except Exception as error:
            LOG.exception("the pipeline failed")
            return None, Problem("internal", {"detail": f"{type(error).__name__}: {error}"})

    def _on_done(self, result: tuple[Status | None, AnyProblem | None, Then]) -> None:
        self._under_way -= 1
        status, problem, then = result
        then(status, problem)

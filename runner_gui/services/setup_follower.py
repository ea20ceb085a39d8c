"""What the engine says of the steps of set-up, kept for whoever shows them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from PySide6.QtCore import QObject, Signal

from runner_gui.services.engine_worker import EngineWorker
from runner_gui.services.step_views import NODES
from wsl_bootstrap.bundle import gather, write_bundle
from wsl_bootstrap.diagnostics import diagnostics
from wsl_bootstrap.engine import Engine
from wsl_bootstrap.options import SetupOptions
from wsl_bootstrap.status import Status, StepEvent, Transition
from wsl_bootstrap.step import OutputLine, Plan, Progress
from wsl_bootstrap.transitions import Event

MAX_LINES = 2000
SETUP_STEPS = (*NODES["wsl"], *NODES["environment"])
FIRST_STEP, LAST_STEP = SETUP_STEPS[0], SETUP_STEPS[-1]


class SetupFollower(QObject):
    """Statuses, plans, progress and output of the steps between this computer and training.

    Args:
        folder: of the Python environment, on the Linux side.

    Signals:
        status_changed(str): a step is in another state, or there is news of its plan or its progress.
        line_received(str, str): a step and a line that its command printed.
    """

    status_changed = Signal(str)
    line_received = Signal(str, str)

    def __init__(
        self,
        engine: Engine[Any],
        worker: EngineWorker,
        folder: PurePath,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.host = engine.host
        self.folder = folder
        self._statuses = {
            status.step_id: status for status in engine.statuses() if status.step_id in SETUP_STEPS
        }
        self._plans: dict[str, Plan] = {}
        self._progress: dict[str, Progress] = {}
        self._lines: dict[str, deque[str]] = {}
        worker.said.connect(self._on_said)
        worker.looked.connect(self._on_looked)

    @property
    def statuses(self) -> Mapping[str, Status]:
        """Where every step stands, in their order."""
        return self._statuses

    @property
    def obstacle(self) -> Status | None:
        """The first step that is not fulfilled, or None when all are."""
        return next((status for status in self._statuses.values() if not status.fulfilled), None)

    def plan(self, step_id: str) -> Plan | None:
        """What a step would do, where it is not fulfilled."""
        status = self._statuses[step_id]
        return None if status.fulfilled else status.plan or self._plans.get(step_id)

    def plans(self) -> Sequence[Plan]:
        """What all steps together would do."""
        return [plan for step_id in self._statuses if (plan := self.plan(step_id)) is not None]

    def progress(self, step_id: str) -> Progress | None:
        """How far a step that is being applied is, where it says so."""
        return self._progress.get(step_id)

    def lines(self, step_id: str) -> Sequence[str]:
        """What a step's commands printed when it was last applied."""
        return tuple(self._lines.get(step_id, ()))

    def report(self, language: str) -> str:
        """Everything above as text, without names, home folders and tokens."""
        statuses = tuple(self._statuses.values())
        return diagnostics(self.host, statuses, self.plans(), self._lines, language)

    def write_bundle(self, target: Path, options: SetupOptions, logs: Sequence[Path], language: str) -> None:
        """Write all of it and the ends of logs to one archive, as clean. For a worker thread.

        Raises:
            OSError: it could not be written.
        """
        parts = gather(self.host, tuple(self._statuses.values()), self.plans(), options, logs, language)
        write_bundle(target, self.host, parts)

    def _on_said(self, said: Transition | StepEvent) -> None:
        step_id = said.after.step_id if isinstance(said, Transition) else said.step_id
        if step_id not in self._statuses:
            return
        if isinstance(said, Transition):
            self._progress.pop(step_id, None)
            if said.event is Event.CONSENT and said.after.attempts == 1:
                self._lines[step_id] = deque(maxlen=MAX_LINES)
            self._statuses[step_id] = said.after
            self.status_changed.emit(step_id)
        elif isinstance(said.payload, OutputLine):
            self._lines.setdefault(step_id, deque(maxlen=MAX_LINES)).append(said.payload.text)
            self.line_received.emit(step_id, said.payload.text)
        elif isinstance(said.payload, Progress):
            self._progress[step_id] = said.payload
            self.status_changed.emit(step_id)

    def _on_looked(self, plans: tuple[Plan, ...]) -> None:
        self._plans = {plan.step_id: plan for plan in plans if plan.step_id in self._statuses}
        for step_id in self._plans:
            self.status_changed.emit(step_id)

"""What the chosen data is like, found out by a child process while the window goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from runner_gui.services.commands import Command, report_args, trainer_command
from runner_gui.services.latest_job import LatestJob


class DataReporter(LatestJob):
    """Reports on the data of the form's parameters.

    Signals:
        started: the path; `progressed` tells bytes read and bytes in all.
    """

    started = Signal(str)

    def __init__(self, cache: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cache = cache

    def command(self, values: Mapping[str, Any]) -> Command:
        return trainer_command("", *report_args(values, self._cache))

    def _begin(self) -> None:
        self.started.emit(self._values["data"])
        super()._begin()

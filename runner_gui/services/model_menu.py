"""What can be loaded, looked up beside the window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from runner_gui.model.model_choices import ModelChoice, model_choices
from runner_gui.model.workspace import Workspace
from runner_gui.services.background import Background


class ModelMenu(QObject):
    """The models to choose from; the same for every page.

    Args:
        original: finds the file of this computer that a run's record names.

    Signals:
        changed: `choices` are others.
    """

    changed = Signal()

    def __init__(
        self, workspace: Workspace, original: Callable[[str], Path], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._workspace, self._original = workspace, original
        self._background = Background(self)
        self._looking = False
        self.choices: list[ModelChoice] = []

    def refresh(self) -> None:
        """Look at the folders again."""
        if not self._looking:
            self._looking = True
            self._background.submit(lambda: model_choices(self._workspace, self._original), self._take)

    def close(self) -> None:
        self._background.close()

    def _take(self, found: list[ModelChoice] | Exception) -> None:
        self._looking = False
        if not isinstance(found, Exception) and found != self.choices:
            self.choices = found
            self.changed.emit()

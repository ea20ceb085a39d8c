"""What the Home page shows of the disk: the last runs and models, looked up beside the window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from runner_gui.model.history import HistoryRow, history
from runner_gui.model.run_store import RunStore
from runner_gui.model.workspace import Workspace
from runner_gui.services.background import Background

SHOWN = 5


@dataclass(frozen=True, slots=True)
class RecentModel:
    """A model file."""

    path: Path
    size_bytes: int
    modified_ts: float


@dataclass(frozen=True, slots=True)
class Recent:
    """The newest of each, newest first."""

    runs: tuple[HistoryRow, ...] = ()
    models: tuple[RecentModel, ...] = ()


class Overview(QObject):
    """Looks at the work folder when it is asked to.

    Signals:
        changed: `recent` is another.
    """

    changed = Signal()

    def __init__(self, workspace: Workspace, store: RunStore, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._workspace, self._store = workspace, store
        self._background = Background(self)
        self._looking = self._again = False
        self.recent = Recent()

    def look(self) -> None:
        """Look again; while a look is under way, once more after it."""
        self._again = self._looking
        if not self._looking:
            self._looking = True
            self._background.submit(lambda: recent(self._workspace, self._store), self._take)

    def close(self) -> None:
        self._background.close()

    def _take(self, found: Recent | Exception) -> None:
        self._looking = False
        if isinstance(found, Recent) and found != self.recent:
            self.recent = found
            self.changed.emit()
        if self._again:
            self.look()


def recent(workspace: Workspace, store: RunStore) -> Recent:
    """The newest runs and models of a work folder; a file that goes away meanwhile is left out."""
    models = []
    for path in workspace.base_models():
        try:
            stat = path.stat()
        except OSError:
            continue
        models.append(RecentModel(path, stat.st_size, stat.st_mtime))
    models.sort(key=lambda model: model.modified_ts, reverse=True)
    return Recent(tuple(history(store)[:SHOWN]), tuple(models[:SHOWN]))

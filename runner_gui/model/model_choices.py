"""Models that can be talked to: files, and checkpoints on their base, not merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner_gui.model.run_store import RunStore, best_checkpoint
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace

# Of the newest runs; earlier ones are found on the Runs page.
RUNS = 20


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One thing to load, under a name; checkpoints carry their step apart."""

    name: str
    options: ServeOptions
    step: int | None = None


def model_choices(workspace: Workspace, original: Callable[[str], Path]) -> list[ModelChoice]:
    """What there is, models first. Reads folders, so it is for another thread than the window's.

    Args:
        original: finds the file of this computer that a run's record names.
    """
    found = [ModelChoice(path.name, ServeOptions(path)) for path in workspace.base_models()]
    for run in RunStore(workspace.runs).runs()[:RUNS]:
        base = original(run.record.params["base_model"])
        points = run.folder.checkpoints()
        if not points or not base.is_file():
            continue
        name = run.folder.notes().name or run.folder.run_id
        kept = {point.path: point for point in (best_checkpoint(run.folder), points[-1]) if point}
        found += [ModelChoice(name, ServeOptions(base, p.adapter), p.meta.step) for p in kept.values()]
    return found

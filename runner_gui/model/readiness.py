"""What the one primary button does next, computed from facts and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ActionId = Literal[
    "choose_model", "choose_data", "fix_parameters", "set_up", "restart", "train", "stop", "resume"
]


@dataclass(frozen=True, slots=True)
class ReadinessFacts:
    """What the button's label depends on.

    `model_chosen`, `data_chosen`: a path is given (whether it is good shows when it is read).
    `parameter_errors`: how many errors the form has, those two fields left out.
    `set_up_missing`: a set-up step before training is not fulfilled, but can be.
    `set_up_obstacle`: catalogue key of what only the person can change, if anything.
    `restart_needed`: what set-up has changed shows after a restart of the computer.
    `busy`: the pipeline works; `training`: on a run that can be stopped; `stopping`: it was asked to.
    `resumable`: an interrupted run with a checkpoint is the one that is shown.
    """

    model_chosen: bool = False
    data_chosen: bool = False
    parameter_errors: int = 0
    set_up_missing: bool = False
    set_up_obstacle: str | None = None
    restart_needed: bool = False
    busy: bool = False
    training: bool = False
    stopping: bool = False
    resumable: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """The button: its label's id, whether it can be pressed, and the catalogue key of why not."""

    id: ActionId
    enabled: bool = True
    reason_key: str | None = None


def next_action(facts: ReadinessFacts) -> Action:
    """The next thing to do. It is never dead: what is disabled says why."""
    if facts.training:
        return Action("stop", not facts.stopping, "readiness.stopping" if facts.stopping else None)
    if facts.busy:
        return Action("stop", not facts.stopping, "readiness.busy" if facts.stopping else None)
    if facts.resumable:
        return Action("resume")
    if not facts.model_chosen:
        return Action("choose_model")
    if not facts.data_chosen:
        return Action("choose_data")
    if facts.parameter_errors:
        return Action("fix_parameters", False, "readiness.fix_parameters")
    if facts.restart_needed:
        return Action("restart")
    if facts.set_up_obstacle is not None:
        return Action("set_up", False, facts.set_up_obstacle)
    if facts.set_up_missing:
        return Action("set_up")
    return Action("train")

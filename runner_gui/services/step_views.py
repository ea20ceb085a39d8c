"""The stepper's six nodes, drawn together from the engine's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runner_gui.model.problems import AnyProblem, as_problem, sentence_key
from wsl_bootstrap.status import Status
from wsl_bootstrap.transitions import FULFILLED, State

# node -> the steps that it stands for
NODES: dict[str, tuple[str, ...]] = {
    "convert": ("convert",),
    "wsl": ("windows_version", "virtualization", "wsl_feature", "wsl_version", "distro"),
    "environment": ("memory", "disk", "gpu", "network", "python_env", "torch_env", "smoke_test"),
    "train": ("train",),
    "merge": ("merge",),
    "use": ("use",),
}
SET_UP_NODES = ("wsl", "environment")
# Of several steps, the first of these states that any is in is the node's.
_LOUDEST = (
    State.FAILED,
    State.UNSUPPORTED,
    State.BLOCKED,
    State.NEEDS_REBOOT,
    State.APPLYING,
    State.VERIFYING,
    State.PLANNED,
    State.PROBING,
    State.MISSING,
    State.UNKNOWN,
    State.SATISFIED,
    State.NOT_NEEDED,
)
WAITS_FOR_PERSON = frozenset({State.BLOCKED, State.UNSUPPORTED, State.NEEDS_REBOOT})
_PENDING = frozenset({State.MISSING, State.UNKNOWN})


@dataclass(frozen=True, slots=True)
class StepView:
    """One node of the stepper, or one step of a node.

    `state` is a value of `wsl_bootstrap.transitions.State`; `detail` a fact in no language (a version, a
    number); `done`, `total`, `unit` its progress while it works.
    """

    id: str
    state: str = State.UNKNOWN.value
    detail: str = ""
    problem: AnyProblem | None = None
    done: int = 0
    total: int | None = None
    unit: str = ""
    members: tuple[StepView, ...] = ()

    @property
    def fulfilled(self) -> bool:
        return State(self.state) in FULFILLED


def view_of(status: Status) -> StepView:
    """One step of the engine's."""
    # "Not done yet" is a state, not a problem.
    shown = status.code if status.state not in _PENDING else None
    return StepView(
        id=status.step_id,
        state=status.state.value,
        detail=status.probe.value if status.probe is not None else "",
        problem=None if shown is None else as_problem(shown),
    )


def nodes(views: Mapping[str, StepView]) -> list[StepView]:
    """The stepper's nodes; a node of one step is that step."""
    found: list[StepView] = []
    for node_id, step_ids in NODES.items():
        members = [views[step_id] for step_id in step_ids if step_id in views]
        if len(step_ids) == 1:
            found.extend(members)
        elif members:
            found.append(_joined(node_id, members))
    return found


def set_up_facts(found: Sequence[StepView]) -> tuple[bool, str | None]:
    """Whether set-up is still to be done, and the catalogue key of what only the person can change."""
    members = [member for view in found if view.id in SET_UP_NODES for member in view.members]
    waiting = next((m for m in members if m.problem is not None and State(m.state) in WAITS_FOR_PERSON), None)
    if waiting is not None and waiting.problem is not None:
        return True, f"{sentence_key(waiting.problem)}.title"
    # The smoke test runs by itself on the way to training; it is not something to set up.
    return any(m.state == State.MISSING.value and m.id != "smoke_test" for m in members), None


def needs_restart(found: Sequence[StepView]) -> bool:
    """Whether what a step has changed shows only after a restart of the computer."""
    return any(m.state == State.NEEDS_REBOOT.value for view in found for m in view.members)


def _joined(node_id: str, members: Sequence[StepView]) -> StepView:
    states = {State(member.state) for member in members}
    loudest = next(state for state in _LOUDEST if state in states)
    if loudest in FULFILLED and State.SATISFIED in states:
        loudest = State.SATISFIED
    speaker = next(member for member in members if member.state == loudest.value)
    detail = next((m.detail for m in reversed(members) if m.detail), "")
    return replace(speaker, id=node_id, detail=detail, members=tuple(members))

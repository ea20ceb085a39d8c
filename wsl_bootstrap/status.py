"""What the engine tells: where a step stands, and what just happened to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wsl_bootstrap.codes import Code
from wsl_bootstrap.step import Plan, Probe
from wsl_bootstrap.transitions import FULFILLED, Event, State


@dataclass(frozen=True)
class Status:
    """Where one step stands, and the facts behind it."""

    step_id: str
    state: State = State.UNKNOWN
    probe: Probe | None = None  # the last look, kept while the next one is under way
    plan: Plan | None = None  # while it waits or is carried out, and after it failed
    code: Code | None = None  # of the probe, or of the failure that came after it
    retryable: bool = False  # whether the failure may pass by itself
    attempts: int = 0  # begun in the series under way

    @property
    def fulfilled(self) -> bool:
        """Whether steps that require this one may go on."""
        return self.state in FULFILLED


@dataclass(frozen=True)
class Transition:
    """One step went from one state to another."""

    before: State
    event: Event
    after: Status


@dataclass(frozen=True)
class StepEvent:
    """Something that a step reported while it was being applied, as the step made it."""

    step_id: str
    payload: object


Listener = Callable[["Transition | StepEvent"], None]
Consent = Callable[["tuple[Plan, ...]"], bool]

"""The rules of one step: its states, the events, and which event is legal in which state.

There is nothing here but the table. Whatever is not in it is refused, so a caller that is out of step
with the engine finds out at once instead of leaving a step in a state that never was.
"""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """Where a step stands."""

    UNKNOWN = "unknown"  # not looked at yet, or something it requires is not there
    PROBING = "probing"
    SATISFIED = "satisfied"
    NOT_NEEDED = "not_needed"  # the probe found that this computer does without it
    MISSING = "missing"  # not there, and the step can make it
    BLOCKED = "blocked"  # not there, and only the person can change that
    UNSUPPORTED = "unsupported"  # cannot be had on this computer
    PLANNED = "planned"  # commands and costs are known; waits for consent or for the next attempt
    APPLYING = "applying"
    VERIFYING = "verifying"
    NEEDS_REBOOT = "needs_reboot"
    FAILED = "failed"


class Event(str, Enum):
    """What can happen to a step."""

    PROBE = "probe"
    FOUND_SATISFIED = "found_satisfied"
    FOUND_NOT_NEEDED = "found_not_needed"
    FOUND_MISSING = "found_missing"
    FOUND_BLOCKED = "found_blocked"
    FOUND_UNSUPPORTED = "found_unsupported"
    FOUND_REBOOT_PENDING = "found_reboot_pending"
    PLAN = "plan"
    CONSENT = "consent"  # given by the person, now or earlier for the same costs
    DONE = "done"
    RETRY = "retry"  # the attempt failed and another one follows
    FAIL = "fail"
    CANCEL = "cancel"
    RESET = "reset"  # something it requires is no longer there


TRANSIENT = frozenset({State.PROBING, State.PLANNED, State.APPLYING, State.VERIFYING})
STABLE = frozenset(State) - TRANSIENT
FULFILLED = frozenset({State.SATISFIED, State.NOT_NEEDED})

_FINDINGS = {
    Event.FOUND_SATISFIED: State.SATISFIED,
    Event.FOUND_NOT_NEEDED: State.NOT_NEEDED,
    Event.FOUND_BLOCKED: State.BLOCKED,
    Event.FOUND_UNSUPPORTED: State.UNSUPPORTED,
    Event.FOUND_REBOOT_PENDING: State.NEEDS_REBOOT,
    Event.FAIL: State.FAILED,
}
_LOOK_AGAIN = {Event.PROBE: State.PROBING, Event.RESET: State.UNKNOWN}

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.UNKNOWN: _LOOK_AGAIN,
    State.PROBING: {**_FINDINGS, Event.FOUND_MISSING: State.MISSING},
    State.SATISFIED: _LOOK_AGAIN,
    State.NOT_NEEDED: _LOOK_AGAIN,
    State.MISSING: {**_LOOK_AGAIN, Event.PLAN: State.PLANNED, Event.FAIL: State.FAILED},
    State.BLOCKED: _LOOK_AGAIN,
    State.UNSUPPORTED: _LOOK_AGAIN,
    State.PLANNED: {**_LOOK_AGAIN, Event.CONSENT: State.APPLYING},
    State.APPLYING: {Event.DONE: State.VERIFYING, Event.RETRY: State.PLANNED, Event.FAIL: State.FAILED},
    State.VERIFYING: _FINDINGS,  # "still missing" is a failure here, not a finding
    State.NEEDS_REBOOT: _LOOK_AGAIN,
    State.FAILED: _LOOK_AGAIN,
}


class IllegalTransitionError(RuntimeError):
    """An event that the state it met does not allow: a mistake in the calling code."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"event {event.value!r} is refused in state {state.value!r}")
        self.state = state
        self.event = event


def next_state(state: State, event: Event, last_stable: State) -> State:
    """Return where `event` leads from `state`.

    Args:
        state: where the step stands.
        event: what happened.
        last_stable: the stable state it was in last; cancelling, legal everywhere, returns there.

    Raises:
        IllegalTransitionError: the table has no such pair.
    """
    if event is Event.CANCEL:
        return last_stable
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransitionError(state, event) from None

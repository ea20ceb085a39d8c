"""The engine: walks steps through their states, one at a time, and tells whoever listens.

It knows the rules (transitions.py), what a step is (step.py) and what has to outlive the program
(journal.py); of WSL, Python or training it knows nothing. The window's whole chain runs on it, and so
does the command line.

Calls run in the caller's thread and return when the work has ended, one at a time. `cancel` and the
readers may be called from any thread. Listeners are called in the thread that does the work.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, TypeVar

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.codes import Code, make_code
from wsl_bootstrap.hosts.base import Host, HostError
from wsl_bootstrap.journal import Costs, Journal
from wsl_bootstrap.status import Consent, Listener, Status, StepEvent, Transition
from wsl_bootstrap.step import Check, Plan, Step, StepError
from wsl_bootstrap.transitions import STABLE, Event, State, next_state

LOG = logging.getLogger(__name__)

OptionsT = TypeVar("OptionsT")

BACKOFF_S = (2.0, 8.0)  # the pauses before the second and the third attempt
MAX_ATTEMPTS = len(BACKOFF_S) + 1
_AHEAD = (State.UNKNOWN, State.MISSING, State.PLANNED)


class EngineBusyError(RuntimeError):
    """The engine was asked for work while it does other work: a mistake in the calling code."""


class Engine(Generic[OptionsT]):
    """Steps, in an order in which each comes after those it requires.

    Args:
        steps: what to walk.
        host: handed to the steps; its boot id tells whether a restart has happened.
        options: handed to the steps' plans; may be replaced between calls.
        journal: what an earlier run of the program left, and what this one leaves.
        wait: waits for a token and a number of seconds, true if cancelled; tests put a clock here.

    Raises:
        ValueError: an id occurs twice, or a step requires one that does not come before it.
    """

    def __init__(
        self,
        steps: Sequence[Check],
        host: Host,
        options: OptionsT,
        journal: Journal,
        *,
        wait: Callable[[CancelToken, float], bool] = CancelToken.wait,
    ) -> None:
        self._steps: dict[str, Check] = {}
        for step in steps:
            if step.id in self._steps or not self._steps.keys() >= set(step.requires):
                raise ValueError(f"step {step.id!r} occurs twice or comes before one that it requires")
            self._steps[step.id] = step
        self.host = host
        self.options = options
        self._journal = journal
        self._wait = wait
        self._statuses = {step_id: Status(step_id) for step_id in self._steps}
        self._stable = dict(self._statuses)  # where cancelling returns to
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()  # guards _token
        self._token: CancelToken | None = None  # of the work going on, if any

    # What anyone may ask, at any time

    def status(self, step_id: str) -> Status:
        """Return where a step stands."""
        return self._statuses[step_id]

    def statuses(self) -> tuple[Status, ...]:
        """Return where all steps stand, in their order."""
        return tuple(self._statuses.values())

    def obstacle(self) -> Status | None:
        """Return the first step that is not fulfilled, or None when all are."""
        return next((status for status in self.statuses() if not status.fulfilled), None)

    def replace_step(self, step: Check) -> None:
        """Put a step in the place of the one with its id, after a choice that its look depends on."""
        with self._working():
            if step.id not in self._steps:
                raise ValueError(f"no step {step.id!r}")
            self._steps[step.id] = step

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` at every transition and step event; return what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def cancel(self) -> None:
        """Ask the work going on to end, which it does when it can, or else drop the plans that wait."""
        try:
            with self._working():
                for status in self.statuses():
                    if status.state is State.PLANNED:
                        self._cancelled(status.step_id)
        except EngineBusyError:
            token = self._token
            if token is not None:
                token.cancel()

    # What makes the engine work, in the caller's thread

    def probe(self, step_id: str) -> Status:
        """Look at one step, unless something it requires is not there."""
        with self._working() as token:
            return self._probe(self._steps[step_id], token)

    def probe_all(self) -> tuple[Status, ...]:
        """Look at every step whose requirements are there."""
        with self._working() as token:
            self._probe_all(token)
        return self.statuses()

    def forecast(self) -> tuple[Plan, ...]:
        """Return what the rest would do and cost, so that a person can be asked once for everything.

        Covers steps that are missing and those that cannot be looked at yet; changes no state.
        """
        plans: list[Plan] = []
        for step in self._steps.values():
            status = self._statuses[step.id]
            if status.state not in _AHEAD or not isinstance(step, Step):
                continue
            try:
                plans.append(status.plan or step.plan(self.host, self.options))
            except (StepError, HostError) as problem:  # it is met, and shown, when the step's turn comes
                LOG.warning("step %s: no forecast: %s", step.id, problem)
        return tuple(plans)

    def plan(self, step_id: str) -> Status:
        """Find out what a missing step would do; it then waits for `apply`."""
        with self._working():
            return self._plan(self._steps[step_id])

    def apply(self, step_id: str) -> Status:
        """Do what was planned and verify it. To call this is to say that the person agreed to the plan.

        Raises:
            IllegalTransitionError: the step is not planned.
        """
        with self._working() as token:
            return self._apply(self._steps[step_id], token)

    def run(self, consent: Consent, *, since: str | None = None, until: str | None = None) -> Status | None:
        """Walk all steps, or those from `since` up to `until`, and make what is missing.

        Args:
            consent: asked with all plans ahead as soon as one costs something, and again only if a plan
                turns out to cost more than was agreed to. What was agreed to before a restart still counts
                after it.
            since: the first step to walk; those before it are only looked at.
            until: the last step to walk.

        Returns:
            The step that stands in the way, or None when everything is there.
        """
        agreed = self._journal.agreed()
        with self._working() as token:
            self._probe_all(token)
            for step in self._from(since):
                status = self._make(step, token, consent, agreed)
                if not status.fulfilled:
                    if status.state is not State.NEEDS_REBOOT:
                        self._journal.agree({})
                    return status
                if step.id == until:
                    break
            self._journal.agree({})
        return None

    # How it works

    def _from(self, since: str | None) -> list[Check]:
        place = 0 if since is None else list(self._steps).index(since)
        return list(self._steps.values())[place:]

    @contextmanager
    def _working(self) -> Iterator[CancelToken]:
        token = CancelToken()
        with self._lock:
            if self._token is not None:
                raise EngineBusyError("the engine does one thing at a time")
            self._token = token
        try:
            yield token
        finally:
            self._token = None

    def _probe_all(self, token: CancelToken) -> None:
        for step in self._steps.values():
            if token.cancelled:
                break
            self._probe(step, token)

    def _make(self, step: Check, token: CancelToken, consent: Consent, agreed: dict[str, Costs]) -> Status:
        """Take one step as far as it goes without stopping, unless cancelled."""
        status = self._statuses[step.id]
        if status.state is State.UNKNOWN and not token.cancelled:
            status = self._probe(step, token)
        if status.state is State.MISSING and not token.cancelled:
            status = self._plan(step)
        if status.state is State.PLANNED:
            if not self._agree(status, consent, agreed):
                return self._cancelled(step.id)
            status = self._apply(step, token)
        return status

    def _probe(self, step: Check, token: CancelToken) -> Status:
        if not all(self._statuses[required].fulfilled for required in step.requires):
            status = self._statuses[step.id]
            return status if status.state is State.UNKNOWN else self._fire(step.id, Event.RESET)
        self._fire(step.id, Event.PROBE)
        return self._look(step, token)

    def _look(self, step: Check, token: CancelToken) -> Status:
        """Probe a step that is in state probing or verifying, and go where that leads."""
        try:
            probe = step.probe(self.host)
        except Exception as problem:  # noqa: BLE001 - a step's mistake must not leave it probing for ever
            return self._failed(step.id, problem)
        if token.cancelled:
            return self._cancelled(step.id)
        event, code = probe.event, probe.code
        if event in (Event.FOUND_MISSING, Event.FOUND_BLOCKED):
            if self._journal.awaits_reboot(step.id, self.host.facts().boot_id):
                event, code = Event.FOUND_REBOOT_PENDING, make_code("restart_needed")
            elif event is Event.FOUND_MISSING and self._statuses[step.id].state is State.VERIFYING:
                return self._failed(step.id, StepError(make_code("no_effect", step=step.id)))
        status = self._fire(step.id, event, probe=probe, plan=None, code=code, retryable=False)
        if status.fulfilled:
            self._journal.clear(step.id)
        return status

    def _plan(self, step: Check) -> Status:
        if not isinstance(step, Step):
            raise TypeError(f"step {step.id!r} only checks: it has to report blocked, not missing")
        try:
            plan = step.plan(self.host, self.options)
        except Exception as problem:  # noqa: BLE001 - as in _look
            return self._failed(step.id, problem)
        return self._fire(step.id, Event.PLAN, plan=plan)

    def _agree(self, status: Status, consent: Consent, agreed: dict[str, Costs]) -> bool:
        """Return whether the person agrees to the step's plan, asking only for costs not agreed to yet."""
        plan = status.plan
        assert plan is not None
        if not plan.needs_consent or (plan.step_id in agreed and plan.within(agreed[plan.step_id])):
            return True
        plans = self.forecast()
        if not consent(plans):
            return False
        agreed.update({plan.step_id: plan.costs for plan in plans})
        if any(plan.reboot for plan in plans):
            self._journal.agree(agreed)
        return True

    def _apply(self, step: Check, token: CancelToken) -> Status:
        """Attempt until it is done, has failed for good, or was cancelled; then verify."""
        assert isinstance(step, Step)
        status = self._statuses[step.id]
        next_state(status.state, Event.CONSENT, status.state)  # refused before the journal says otherwise
        assert status.plan is not None
        while True:
            attempt = self._journal.begin_attempt(step.id)
            self._fire(step.id, Event.CONSENT, code=None, retryable=False, attempts=attempt)
            try:
                token.raise_if_cancelled()
                outcome = step.apply(
                    self.host, status.plan, lambda payload: self._report(step.id, payload), token
                )
            except CancelledError:
                return self._cancelled(step.id)
            except Exception as problem:  # noqa: BLE001 - as in _look
                if attempt >= MAX_ATTEMPTS or not _retryable(problem):
                    return self._failed(step.id, problem)
                self._fire(step.id, Event.RETRY, code=_code_of(problem), retryable=True)
                if self._wait(token, BACKOFF_S[attempt - 1]):
                    return self._cancelled(step.id)
                continue
            if outcome.reboot:  # written before anyone hears of it, or a crash now would do the work twice
                self._journal.ask_reboot(step.id, self.host.facts().boot_id)
            self._fire(step.id, Event.DONE)
            return self._look(step, token)

    def _failed(self, step_id: str, problem: Exception) -> Status:
        LOG.warning("step %s: %s", step_id, problem, exc_info=not isinstance(problem, StepError | HostError))
        self._journal.end_series(step_id)
        return self._fire(step_id, Event.FAIL, code=_code_of(problem), retryable=_retryable(problem))

    def _cancelled(self, step_id: str) -> Status:
        self._journal.end_series(step_id)
        return self._fire(step_id, Event.CANCEL)

    def _fire(self, step_id: str, event: Event, **facts: object) -> Status:
        """Make one transition, with the facts that came with it; log it and tell the listeners."""
        before, stable = self._statuses[step_id], self._stable[step_id]
        state = next_state(before.state, event, stable.state)
        if event is Event.CANCEL:
            after = stable
        elif event is Event.RESET:
            after = Status(step_id)
        else:
            after = replace(before, state=state, **facts)
        self._statuses[step_id] = after
        if state in STABLE:
            self._stable[step_id] = after
        why = f" ({after.code.id})" if after.code else ""
        LOG.info("step %s: %s, %s: %s%s", step_id, before.state.value, event.value, state.value, why)
        self._tell(Transition(before.state, event, after))
        return after

    def _report(self, step_id: str, payload: object) -> None:
        self._tell(StepEvent(step_id, payload))

    def _tell(self, happening: Transition | StepEvent) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(happening)
            except Exception:
                LOG.exception("a listener failed at %s", happening)


def _code_of(problem: Exception) -> Code:
    if isinstance(problem, StepError | HostError):
        return problem.code
    return make_code("internal_error", detail=f"{type(problem).__name__}: {problem}")


def _retryable(problem: Exception) -> bool:
    return isinstance(problem, StepError | HostError) and problem.retryable

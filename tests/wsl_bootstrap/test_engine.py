"""The engine, driven over steps that really change a scripted computer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.engine import BACKOFF_S, MAX_ATTEMPTS, Engine, EngineBusyError
from wsl_bootstrap.hosts.base import CommandTimeoutError
from wsl_bootstrap.journal import Journal
from wsl_bootstrap.status import Status, StepEvent, Transition
from wsl_bootstrap.step import Plan, Probe, StepError
from wsl_bootstrap.transitions import IllegalTransitionError, State

Make = Callable[..., Engine[str]]
FULL = StepError(make_code("disk_full", path="/", have_gb=0.0, need_gb=1.0))
DROPPED = StepError(make_code("download_failed", detail="dropped"), retryable=True)


class Clock:
    """Stands in for waiting: takes no time and remembers how long it would have."""

    def __init__(self, cancel_at_s: float | None = None) -> None:
        self.waits_s: list[float] = []
        self._cancel_at_s = cancel_at_s

    def wait(self, token: CancelToken, seconds: float) -> bool:
        self.waits_s.append(seconds)
        return self._cancel_at_s is not None and sum(self.waits_s) >= self._cancel_at_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal_path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "setup.json"


@pytest.fixture
def make(host: Any, clock: Clock, journal_path: Path) -> Make:
    def build(*steps: Any, wait: Callable[[CancelToken, float], bool] = clock.wait) -> Engine[str]:
        return Engine(steps, host, "an option", Journal(journal_path), wait=wait)

    return build


def agree(plans: tuple[Plan, ...]) -> bool:
    return True


def states(engine: Engine[str]) -> list[str]:
    return [status.state.value for status in engine.statuses()]


def record(engine: Engine[str]) -> list[str]:
    """Return a list that fills with every transition, as `step:event>state`."""
    seen: list[str] = []

    def listen(happening: Transition | StepEvent) -> None:
        if isinstance(happening, Transition):
            seen.append(f"{happening.after.step_id}:{happening.event.value}>{happening.after.state.value}")

    engine.subscribe(listen)
    return seen


def failing(*problems: Exception | None) -> Callable[[int, CancelToken], None]:
    """Return trouble that raises the n-th problem at the n-th attempt, and none later."""

    def trouble(attempt: int, cancel: CancelToken) -> None:
        problem = problems[attempt] if attempt < len(problems) else None
        if problem is not None:
            raise problem

    return trouble


# The straight road


def test_a_missing_step_is_planned_applied_and_verified(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a"))
    seen = record(engine)
    assert engine.run(agree) is None
    assert seen == [
        "a:probe>probing",
        "a:found_missing>missing",
        "a:plan>planned",
        "a:consent>applying",
        "a:done>verifying",
        "a:found_satisfied>satisfied",
    ]
    assert host.effects == ["a@boot-1"]


def test_a_satisfied_step_costs_one_look(host: Any, fakes: ModuleType, make: Make) -> None:
    host.effects.append("a@boot-1")
    engine = make(fakes.FakeStep(host, "a"))
    seen = record(engine)
    assert engine.run(lambda plans: pytest.fail("there is nothing to agree to")) is None
    assert seen == ["a:probe>probing", "a:found_satisfied>satisfied"]


def test_a_step_waits_for_those_that_it_requires(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a"), fakes.FakeStep(host, "b", ("a",)))
    engine.probe_all()
    assert states(engine) == ["missing", "unknown"]
    assert engine.probe("b").state is State.UNKNOWN
    assert engine.run(agree) is None
    assert states(engine) == ["satisfied", "satisfied"]


def test_a_requirement_that_goes_away_takes_the_rest_with_it(
    host: Any, fakes: ModuleType, make: Make
) -> None:
    engine = make(fakes.FakeStep(host, "a"), fakes.FakeStep(host, "b", ("a",)))
    engine.run(agree)
    host.effects.remove("a@boot-1")
    engine.probe_all()
    assert states(engine) == ["missing", "unknown"]
    assert engine.status("b") == Status("b")


def test_not_needed_is_as_good_as_satisfied(host: Any, fakes: ModuleType, make: Make) -> None:
    check = fakes.FakeCheck("a", Probe.not_needed(make_code("not_needed_on_linux")))
    engine = make(check, fakes.FakeStep(host, "b", ("a",)))
    assert engine.run(agree) is None
    assert states(engine) == ["not_needed", "satisfied"]


@pytest.mark.parametrize(
    ("probe", "state"),
    [
        (Probe.blocked(make_code("memory_too_small", have_gb=1.0, need_gb=2.0)), State.BLOCKED),
        (Probe.unsupported(make_code("wsl_policy_off")), State.UNSUPPORTED),
        (Probe.reboot_pending(make_code("restart_needed")), State.NEEDS_REBOOT),
    ],
)
def test_what_stands_in_the_way_is_returned_before_anything_is_asked(
    host: Any, fakes: ModuleType, make: Make, probe: Probe, state: State
) -> None:
    engine = make(fakes.FakeCheck("a", probe), fakes.FakeStep(host, "b"))
    obstacle = engine.run(lambda plans: pytest.fail("asked too early"))
    assert obstacle is not None
    assert (obstacle.step_id, obstacle.state, obstacle.code) == ("a", state, probe.code)
    assert engine.obstacle() == obstacle
    assert host.effects == []


def test_run_stops_after_the_step_it_was_told(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a"), fakes.FakeStep(host, "b"))
    assert engine.run(agree, until="a") is None
    assert host.effects == ["a@boot-1"]


def test_what_a_step_reports_reaches_listeners_until_they_leave(
    host: Any, fakes: ModuleType, make: Make
) -> None:
    engine = make(fakes.FakeStep(host, "a"), fakes.FakeStep(host, "b"))
    heard: list[object] = []
    leave = engine.subscribe(lambda happening: heard.append(happening))
    engine.run(agree, until="a")
    leave()
    engine.run(agree)
    assert [h.payload for h in heard if isinstance(h, StepEvent)] == ["making a"]


def test_a_walk_may_begin_later_and_end_earlier(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(*(fakes.FakeStep(host, name) for name in "abcd"))
    assert engine.run(agree, since="b", until="c") is None
    states = [status.state for status in engine.statuses()]
    assert states == [State.MISSING, State.SATISFIED, State.SATISFIED, State.MISSING]


def test_another_step_may_take_the_place_of_one(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeCheck("a", Probe.satisfied("old")), fakes.FakeStep(host, "b", requires=("a",)))
    engine.replace_step(fakes.FakeCheck("a", Probe.satisfied("new")))
    found = engine.probe("a").probe
    assert found is not None
    assert found.value == "new"
    with pytest.raises(ValueError, match="no step"):
        engine.replace_step(fakes.FakeCheck("c", Probe.satisfied()))


def test_a_listener_that_fails_stops_nobody(
    host: Any, fakes: ModuleType, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make(fakes.FakeStep(host, "a"))
    engine.subscribe(lambda happening: 1 / 0)  # type: ignore[arg-type, return-value]
    seen = record(engine)
    assert engine.run(agree) is None
    assert len(seen) == 6
    assert caplog.text.count("a listener failed") == 7


# Consent


def test_everything_ahead_is_asked_for_once(host: Any, fakes: ModuleType, make: Make) -> None:
    asked: list[tuple[Plan, ...]] = []
    engine = make(fakes.FakeStep(host, "a"), fakes.FakeStep(host, "b", ("a",), download_bytes=30))

    def consent(plans: tuple[Plan, ...]) -> bool:
        asked.append(plans)
        return True

    assert engine.run(consent) is None
    assert [[(plan.step_id, plan.download_bytes) for plan in plans] for plans in asked] == [
        [("a", 10), ("b", 30)]
    ]
    assert asked[0][0].commands == (("make", "a", "an option"),)


def test_a_plan_that_grew_is_asked_for_again(host: Any, fakes: ModuleType, make: Make) -> None:
    asked: list[list[str]] = []
    dear = fakes.FakeStep(host, "b", ("a",))
    engine = make(
        fakes.FakeStep(host, "a", trouble=lambda n, c: object.__setattr__(dear, "download_bytes", 99)), dear
    )

    def consent(plans: tuple[Plan, ...]) -> bool:
        asked.append([plan.step_id for plan in plans])
        return len(asked) == 1

    obstacle = engine.run(consent)
    assert asked == [["a", "b"], ["b"]]
    assert obstacle is not None
    assert (obstacle.step_id, obstacle.state) == ("b", State.MISSING)
    assert host.effects == ["a@boot-1"]


def test_what_costs_nothing_is_done_without_a_question(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a", download_bytes=0))
    assert engine.run(lambda plans: pytest.fail("asked for nothing")) is None
    assert host.effects == ["a@boot-1"]


def test_a_refusal_leaves_the_step_missing(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a"))
    obstacle = engine.run(lambda plans: False)
    assert obstacle is not None
    assert (obstacle.state, obstacle.plan) == (State.MISSING, None)
    assert host.effects == []


# Failing


def test_a_passing_trouble_is_retried_with_growing_pauses(
    host: Any, fakes: ModuleType, make: Make, clock: Clock
) -> None:
    engine = make(fakes.FakeStep(host, "a", trouble=failing(DROPPED, DROPPED)))
    seen = record(engine)
    assert engine.run(agree) is None
    assert clock.waits_s == list(BACKOFF_S) == [2.0, 8.0]
    assert seen.count("a:retry>planned") == 2
    assert engine.status("a").attempts == 3


def test_a_host_that_times_out_is_retried_too(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a", trouble=failing(CommandTimeoutError(["x"], 1.0))))
    assert engine.run(agree) is None


def test_after_three_attempts_it_has_failed_and_may_be_tried_anew(
    host: Any, fakes: ModuleType, make: Make, clock: Clock, journal_path: Path
) -> None:
    step = fakes.FakeStep(host, "a", trouble=failing(DROPPED, DROPPED, DROPPED))
    engine = make(step)
    status = engine.run(agree)
    assert status is not None
    assert (status.state, status.code, status.retryable) == (State.FAILED, DROPPED.code, True)
    assert status.attempts == len(step.calls) == MAX_ATTEMPTS == 3
    assert status.plan is not None  # so that a person can see what to run by hand
    assert status.plan.commands == (("make", "a", "an option"),)
    assert Journal(journal_path).attempts("a") == 0
    assert engine.run(agree) is None
    assert len(step.calls) == 4


@pytest.mark.parametrize(
    ("problem", "code_id"), [(FULL, "disk_full"), (ZeroDivisionError("oh"), "internal_error")]
)
def test_a_lasting_trouble_is_not_retried(
    host: Any, fakes: ModuleType, make: Make, clock: Clock, problem: Exception, code_id: str
) -> None:
    engine = make(fakes.FakeStep(host, "a", trouble=failing(problem)), fakes.FakeStep(host, "b"))
    status = engine.run(agree)
    assert status is not None
    assert status.code is not None
    assert (status.state, status.code.id, status.retryable) == (State.FAILED, code_id, False)
    assert clock.waits_s == []
    assert engine.status("b").state is State.MISSING


def test_an_apply_that_changed_nothing_has_failed(host: Any, fakes: ModuleType, make: Make) -> None:
    class Idle(fakes.FakeStep):  # type: ignore[name-defined, misc]
        def apply(self, *arguments: Any) -> Any:
            outcome = super().apply(*arguments)
            self.host.effects.clear()
            return outcome

    status = make(Idle(host, "a")).run(agree)
    assert status is not None
    assert status.code == make_code("no_effect", step="a")


@pytest.mark.parametrize("broken", ["probe", "plan"])
def test_a_step_that_cannot_even_look_or_plan_has_failed(
    host: Any, fakes: ModuleType, make: Make, broken: str
) -> None:
    class Broken(fakes.FakeStep):  # type: ignore[name-defined, misc]
        pass

    def fail(*arguments: Any) -> Any:
        raise FULL

    setattr(Broken, broken, fail)
    engine = make(Broken(host, "a"))
    status = engine.run(agree)
    assert status is not None
    assert (status.state, status.code) == (State.FAILED, FULL.code)
    assert engine.forecast() == ()


# Cancelling


def test_cancelling_while_a_step_works_returns_to_missing(host: Any, fakes: ModuleType, make: Make) -> None:
    """From another thread, as the window does it; the step notices by its token."""
    working = threading.Event()

    def until_cancelled(attempt: int, cancel: CancelToken) -> None:
        working.set()
        assert cancel.wait(10)
        cancel.raise_if_cancelled()

    engine = make(fakes.FakeStep(host, "a", trouble=until_cancelled), fakes.FakeStep(host, "b"))
    results: list[Status | None] = []
    thread = threading.Thread(target=lambda: results.append(engine.run(agree)))
    thread.start()
    assert working.wait(10)
    with pytest.raises(EngineBusyError):
        engine.probe("b")
    engine.cancel()
    thread.join(10)
    assert [status and status.state for status in results] == [State.MISSING]
    assert host.effects == []
    assert engine.status("b").state is State.MISSING


@pytest.mark.parametrize("moment", ["probing", "missing", "planned", "applying", "verifying"])
def test_cancelling_at_any_transition_ends_in_a_stable_state(
    host: Any, fakes: ModuleType, make: Make, journal_path: Path, moment: str
) -> None:
    engine = make(fakes.FakeStep(host, "a"))

    def listen(happening: Transition | StepEvent) -> None:
        if isinstance(happening, Transition) and happening.after.state.value == moment:
            engine.cancel()

    engine.subscribe(listen)
    status = engine.run(agree)
    assert status is not None
    assert status.state is (State.UNKNOWN if moment == "probing" else State.MISSING)
    assert Journal(journal_path).attempts("a") == 0
    assert len(host.effects) == (1 if moment == "verifying" else 0)


def test_cancelling_a_pause_ends_the_attempts(host: Any, fakes: ModuleType, make: Make) -> None:
    step = fakes.FakeStep(host, "a", trouble=failing(DROPPED, DROPPED))
    status = make(step, wait=Clock(cancel_at_s=2.0).wait).run(agree)
    assert status is not None
    assert (status.state, status.retryable) == (State.MISSING, False)
    assert len(step.calls) == 1


def test_a_look_that_is_cancelled_leaves_what_was_known(host: Any, fakes: ModuleType, make: Make) -> None:
    host.effects.append("a@boot-1")
    engine = make(fakes.FakeStep(host, "a"))
    known = engine.probe("a")
    host.effects.clear()
    engine.subscribe(lambda happening: engine.cancel())
    assert engine.probe("a") == known


def test_cancelling_drops_a_plan_that_waits(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a"))
    engine.probe("a")
    assert engine.plan("a").plan is not None
    engine.cancel()
    assert engine.status("a").state is State.MISSING
    with pytest.raises(IllegalTransitionError):
        engine.apply("a")


def test_cancelling_nothing_changes_nothing(host: Any, fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeStep(host, "a"))
    engine.cancel()
    assert engine.run(agree) is None


# Restarting the computer


def test_a_restart_is_waited_for_and_told_by_the_boot_id(host: Any, fakes: ModuleType, make: Make) -> None:
    step = fakes.FakeStep(host, "a", reboot=True)
    status = make(step).run(agree)
    assert status is not None
    assert (status.state, status.code) == (State.NEEDS_REBOOT, make_code("restart_needed"))

    status = make(step).run(agree)  # only the program was started again, not the computer
    assert status is not None
    assert status.state is State.NEEDS_REBOOT
    assert step.calls == ["a"]

    host.reboot()
    assert make(step).run(agree) is None
    assert step.calls == ["a"]


def test_a_restart_without_effect_leads_to_another_attempt(host: Any, fakes: ModuleType, make: Make) -> None:
    step = fakes.FakeStep(host, "a", reboot=True)
    make(step).run(agree)
    host.effects.clear()
    host.reboot()
    status = make(step).run(agree)
    assert status is not None
    assert status.state is State.NEEDS_REBOOT
    assert step.calls == ["a", "a"]


def test_a_restart_that_turned_out_unneeded_is_forgotten(
    host: Any, fakes: ModuleType, make: Make, journal_path: Path
) -> None:
    step = fakes.FakeStep(host, "a", reboot=True)
    make(step).run(agree)
    host.effects.append("a@boot-0")  # something else made it, without a restart
    assert make(step).run(agree) is None
    assert not Journal(journal_path).awaits_reboot("a", "boot-1")


# Being killed


class Killed(BaseException):
    """The program ends here: nothing catches this."""


ROAD = ("probing", "missing", "planned", "applying", "verifying", "satisfied", "needs_reboot")


@pytest.mark.parametrize("reboot", [False, True], ids=["plain", "reboot"])
@pytest.mark.parametrize("step_id", ["a", "b"])
@pytest.mark.parametrize("moment", ROAD)
def test_killed_at_any_transition_the_next_start_goes_on_and_does_nothing_twice(
    host: Any, fakes: ModuleType, make: Make, moment: str, step_id: str, reboot: bool
) -> None:
    steps = (fakes.FakeStep(host, "a", reboot=reboot), fakes.FakeStep(host, "b", ("a",), reboot=reboot))
    engine = make(*steps)

    def kill(happening: Transition | StepEvent) -> None:
        if isinstance(happening, Transition):
            after = happening.after
            if (after.step_id, after.state.value) == (step_id, moment):
                raise Killed

    leave = engine.subscribe(kill)
    killed = 0
    for _ in range(6):
        try:
            status = engine.run(agree)
        except Killed:
            killed += 1
            leave()
            engine = make(*steps)
            continue
        if status is None:
            break
        assert status.state is State.NEEDS_REBOOT
        host.reboot()
        engine = make(*steps)
        if not killed:
            leave = engine.subscribe(kill)
    assert states(engine) == ["satisfied", "satisfied"]
    assert [effect[0] for effect in host.effects] == ["a", "b"]
    assert killed == (0 if moment == "needs_reboot" and not reboot else 1)


def test_killed_in_the_middle_of_every_attempt_it_does_not_go_on_for_ever(
    host: Any, fakes: ModuleType, make: Make
) -> None:
    """An attempt that takes the program down with it counts, though nobody was left to say that it failed."""
    step = fakes.FakeStep(host, "a", trouble=failing(Killed(), Killed(), Killed(), DROPPED))  # type: ignore[arg-type]
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Killed):
            make(step).run(agree)
    status = make(step).run(agree)
    assert status is not None
    assert status.state is State.FAILED
    assert len(step.calls) == 4


# Mistakes of the calling code


@pytest.mark.parametrize("order", [("a", "a"), ("b", "a")], ids=["twice", "before one that it requires"])
def test_steps_in_an_impossible_order_are_refused(
    host: Any, fakes: ModuleType, make: Make, order: tuple[str, str]
) -> None:
    requires = {"a": (), "b": ("a",)}
    with pytest.raises(ValueError, match="occurs twice or comes before"):
        make(*(fakes.FakeStep(host, step_id, requires[step_id]) for step_id in order))


def test_a_check_that_reports_missing_is_a_mistake(fakes: ModuleType, make: Make) -> None:
    engine = make(fakes.FakeCheck("a", Probe.missing(make_code("torch_missing"))))
    with pytest.raises(TypeError, match="only checks"):
        engine.run(agree)


@pytest.mark.parametrize("call", ["plan", "apply"])
def test_a_step_out_of_turn_is_refused(host: Any, fakes: ModuleType, make: Make, call: str) -> None:
    engine = make(fakes.FakeStep(host, "a"))
    with pytest.raises(IllegalTransitionError):
        getattr(engine, call)("a")
    assert engine.probe("a").state is State.MISSING  # and the engine still works

from __future__ import annotations

from typing import Any

import pytest

from runner_gui.services.outcome import OutcomeReader, problem_of
from trainer.contract.errors import Problem
from trainer.contract.events import Event


def ev(t: str, **fields: Any) -> Event:
    return Event(t, 0, 0.0, fields)


@pytest.mark.parametrize(
    ("exit_code", "says_bye", "status", "code"),
    [
        (0, False, "completed", None),
        (3, False, "stopped", None),
        (1, False, "failed", "internal"),
        (-9, False, "killed", "killed"),
        (None, True, "killed", "killed"),
        # The exit status of a trainer proves nothing without its own word.
        (0, True, "failed", "internal"),
    ],
)
def test_by_exit_status(exit_code: int | None, says_bye: bool, status: str, code: str | None) -> None:
    outcome = OutcomeReader(says_bye).outcome(exit_code)
    assert outcome.status == status
    assert (outcome.problem.code if outcome.problem else None) == code


@pytest.mark.parametrize("status", ["completed", "stopped", "failed"])
def test_its_own_word_counts_more_than_how_the_interpreter_ended(status: str) -> None:
    reader = OutcomeReader(says_bye=True)
    reader.note_event(ev("bye", status=status, step=3, reason=None))
    assert reader.outcome(-11).status == status


def test_the_first_fatal_error_is_the_problem() -> None:
    reader = OutcomeReader()
    reader.note_event(ev("error", code="data_format", args={"path": "/x", "reason": "r"}, fatal=False))
    reader.note_event(ev("error", code="oom_ram", args={}, fatal=True, trace_tail=["a", "b"]))
    reader.note_event(ev("error", code="internal", args={"detail": "after"}, fatal=True))
    reader.note_line("error[disk_full]: sentence")
    outcome = reader.outcome(1)
    assert outcome.problem == Problem("oom_ram")
    assert outcome.last_lines == ("a", "b", "error[disk_full]: sentence")
    assert outcome.details() == "exit status 1\na\nb\nerror[disk_full]: sentence"


def test_a_sentence_with_a_code_is_enough() -> None:
    reader = OutcomeReader()
    reader.note_line("Traceback, somewhere")
    reader.note_line("error[data_not_found]: It is not there: /x.")
    assert reader.outcome(2).problem == Problem("data_not_found")
    other = OutcomeReader()
    other.note_line("error[usage]: what is --foo?")
    assert other.outcome(2).problem == Problem("internal", {"detail": "what is --foo?"})


def test_a_resumed_run_starts_with_a_clean_slate() -> None:
    reader = OutcomeReader(says_bye=True)
    reader.note_event(ev("error", code="oom_ram", args={}, fatal=True))
    reader.note_event(ev("bye", status="failed"))
    reader.note_event(ev("hello"))
    assert reader.outcome(-9).problem == Problem("killed", {"signal": "SIGKILL"})


def test_what_the_person_ordered_is_no_problem() -> None:
    outcome = OutcomeReader(says_bye=True).outcome(-9, we_killed=True)
    assert (outcome.status, outcome.problem) == ("stopped", None)


def test_unknown_codes_stay_visible() -> None:
    problem = problem_of(ev("error", code="from_the_future", args={"a": 1}))
    assert problem.code == "internal"
    assert "from_the_future" in problem.args["detail"]
    assert problem_of(ev("warning", code="data_short", args=None)) == Problem("data_short")
    with_param = problem_of(ev("error", code="param_required", args={"param": "data"}))
    assert with_param.param == "data"


def test_only_the_last_lines_are_kept() -> None:
    reader = OutcomeReader()
    for number in range(100):
        reader.note_line(str(number))
    assert reader.outcome(1).last_lines == tuple(str(n) for n in range(60, 100))
    assert reader.outcome(1).problem == Problem("internal", {"detail": "99"})

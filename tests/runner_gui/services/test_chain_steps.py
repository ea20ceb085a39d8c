from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from runner_gui.services.chain_steps import ConvertRequest, ConvertStep, Warned, raise_unless_done
from runner_gui.services.jobs import WorkerJobs
from runner_gui.services.outcome import JobOutcome
from trainer.contract.errors import Problem
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.hosts import this_host
from wsl_bootstrap.step import OutputLine, Plan, Progress, StepError
from wsl_bootstrap.transitions import Event


@pytest.fixture
def jobs(qtbot: QtBot) -> Iterator[WorkerJobs]:
    jobs = WorkerJobs()
    yield jobs
    jobs.close()


@pytest.fixture
def request_(tmp_path: Path, make_checkpoint: Callable[..., Any]) -> ConvertRequest:
    make_checkpoint(tmp_path / "m.pth", n_layer=1, n_embd=64, vocab=65536, dtype="bf16")
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "one two"}\nbroken\n{"text": "三 四"}\n', encoding="utf-8")
    return ConvertRequest(str(data), None, str(tmp_path / "m.pth"))


def apply(qtbot: QtBot, step: ConvertStep, token: CancelToken | None = None) -> list[object]:
    """Do the step's work as the engine does, in another thread, while the event loop turns."""
    said: list[object] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            step.apply(this_host(), Plan(step.id), said.append, token or CancelToken())
        except (StepError, CancelledError) as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    qtbot.waitUntil(lambda: not thread.is_alive(), timeout=60_000)
    thread.join()
    if failures:
        raise failures[0]
    return said


def test_converted_once_and_again_only_when_the_data_differs(
    qtbot: QtBot, jobs: WorkerJobs, request_: ConvertRequest, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    step = ConvertStep(jobs, cache)
    host = this_host()
    assert step.probe(host).event is Event.FOUND_MISSING
    step.request = request_
    assert step.probe(host).event is Event.FOUND_MISSING
    said = apply(qtbot, step)
    assert [item.problem.code for item in said if isinstance(item, Warned)] == ["data_line_skipped"]
    assert any(isinstance(item, Progress) and item.total for item in said)
    assert any(isinstance(item, OutputLine) for item in said)
    found = step.probe(host)
    assert found.event is Event.FOUND_SATISFIED
    assert int(found.value) > 4

    def conversions() -> set[Path]:
        return {path.parent for path in cache.glob("*/data.idx")}

    first = conversions()
    assert len(first) == 1
    # Another start of the program remembers nothing, and finds the conversion.
    again = ConvertStep(jobs, cache)
    again.request = request_
    assert again.probe(host).event is Event.FOUND_MISSING
    assert not any(isinstance(item, Progress) for item in apply(qtbot, again))
    assert conversions() == first
    # Edited data is other data.
    with open(request_.data, "a", encoding="utf-8") as file:
        file.write('{"text": "five"}\n')
    assert step.probe(host).event is Event.FOUND_MISSING
    apply(qtbot, step)
    assert len(conversions()) == 2


def test_what_is_wrong_comes_with_its_facts(
    qtbot: QtBot, jobs: WorkerJobs, request_: ConvertRequest, tmp_path: Path
) -> None:
    step = ConvertStep(jobs, tmp_path / "cache")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    step.request = ConvertRequest(str(empty), None, request_.base_model)
    with pytest.raises(StepError) as caught:
        apply(qtbot, step)
    assert (caught.value.code.id, dict(caught.value.code.args)) == ("data_empty", {"path": str(empty)})


def test_called_off_before_the_event_loop_came_to_it(
    qtbot: QtBot, jobs: WorkerJobs, request_: ConvertRequest, tmp_path: Path
) -> None:
    step = ConvertStep(jobs, tmp_path / "cache")
    step.request = request_
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        apply(qtbot, step, token)
    assert not list((tmp_path / "cache").glob("*/data.idx"))


def test_ends_in_the_engines_words() -> None:
    raise_unless_done(JobOutcome("completed", 0))
    with pytest.raises(CancelledError):
        raise_unless_done(JobOutcome("stopped", 3))
    with pytest.raises(StepError) as caught:
        raise_unless_done(JobOutcome("failed", 1, Problem("oom_ram")))
    assert caught.value.code.id == "oom_ram"

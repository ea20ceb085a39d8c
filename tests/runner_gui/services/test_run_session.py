from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from pytestqt.qtbot import QtBot

from runner_gui.services.commands import Command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.run_session import RunSession
from runner_gui.services.stop_ladder import StopTimes
from trainer.contract.errors import Problem
from trainer.contract.run_folder import RunFolder

MakeCommand = Callable[..., Command]
FAST = StopTimes(ack_s=0.4, save_s=0.6, term_s=0.4)
SHORT_SAVE = StopTimes(ack_s=20.0, save_s=0.6, term_s=20.0)  # for a trainer that answers and obeys a signal
PATIENT = StopTimes(ack_s=20.0, save_s=20.0, term_s=20.0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    path = tmp_path / "run 一"
    path.mkdir()
    return RunFolder(path)


class Watched:
    """A session with everything that it tells."""

    def __init__(self, session: RunSession) -> None:
        self.session = session
        self.types: list[str] = []
        self.steps: list[int] = []
        self.rungs: list[str] = []
        self.answering: list[bool] = []
        self.outcomes: list[JobOutcome] = []
        session.event_received.connect(self._on_event)
        session.stop_rung_reached.connect(self.rungs.append)
        session.answering_changed.connect(self.answering.append)
        session.ended.connect(self.outcomes.append)

    def _on_event(self, event: object) -> None:
        self.types.append(event.t)  # type: ignore[attr-defined]
        if self.types[-1] == "step":
            self.steps.append(event["step"])  # type: ignore[index]

    def start(self, qtbot: QtBot) -> None:
        self.session.start()
        qtbot.waitUntil(lambda: len(self.steps) > 2 or bool(self.outcomes), timeout=20_000)

    def wait_end(self, qtbot: QtBot) -> JobOutcome:
        qtbot.waitUntil(lambda: bool(self.outcomes), timeout=20_000)
        assert len(self.outcomes) == 1
        return self.outcomes[0]


@contextmanager
def running(command: Command) -> Iterator[subprocess.Popen[bytes]]:
    """A trainer that another window started."""
    process = subprocess.Popen(command.argv, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_stop_with_save_is_acknowledged_saved_and_told(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    watched = Watched(RunSession(folder, fake_trainer(folder.path), stop_times=PATIENT))
    watched.start(qtbot)
    assert watched.types[0] == "hello"
    assert not watched.session.is_stopping
    watched.session.stop(save=True)
    assert watched.session.is_stopping
    outcome = watched.wait_end(qtbot)
    assert (outcome.status, outcome.exit_code, outcome.problem) == ("stopped", 3, None)
    assert watched.types[-3:] == ["ack", "checkpoint", "bye"]
    assert watched.rungs == ["asked", "acknowledged"]
    assert watched.steps == list(range(1, len(watched.steps) + 1))
    assert not folder.control.exists()  # the pipe was there


def test_one_that_acknowledges_and_does_not_end_is_told_to(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    watched = Watched(RunSession(folder, fake_trainer(folder.path, "no-stop"), stop_times=SHORT_SAVE))
    watched.start(qtbot)
    watched.session.stop(save=True)
    outcome = watched.wait_end(qtbot)
    assert watched.rungs == ["asked", "acknowledged", "terminating"]
    assert (outcome.status, outcome.exit_code, outcome.problem) == ("stopped", -signal.SIGTERM, None)


def test_one_that_hears_nothing_at_all_is_ended(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    command = fake_trainer(folder.path, "silent", "no-ack", "deaf")
    watched = Watched(RunSession(folder, command, stop_times=FAST))
    watched.session.start()
    qtbot.waitUntil(lambda: "hello" in watched.types, timeout=20_000)
    watched.session.stop(save=False)
    outcome = watched.wait_end(qtbot)
    assert watched.rungs == ["asked", "terminating", "killing"]
    assert (outcome.status, outcome.exit_code) == ("stopped", -signal.SIGKILL)


def test_one_in_the_middle_of_a_long_step_is_given_time(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    watched = Watched(
        RunSession(folder, fake_trainer(folder.path, "no-ack"), stop_times=StopTimes(0.4, 0.6, 20.0))
    )
    watched.start(qtbot)
    watched.session.stop(save=True)
    watched.wait_end(qtbot)
    assert watched.rungs == ["asked", "no_answer", "terminating"]


def test_one_that_was_killed_is_a_problem(qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand) -> None:
    watched = Watched(RunSession(folder, fake_trainer(folder.path)))
    watched.start(qtbot)
    os.kill(watched.session.pid, signal.SIGKILL)
    outcome = watched.wait_end(qtbot)
    assert (outcome.status, outcome.exit_code) == ("killed", -signal.SIGKILL)
    assert outcome.problem == Problem("killed", {"signal": "SIGKILL"})
    assert folder.status() == "interrupted"


def test_what_it_says_before_it_has_a_log_is_its_problem(
    qtbot: QtBot, folder: RunFolder, py_command: MakeCommand
) -> None:
    command = py_command("""
sys.stdout = sys.stderr
event("error", code="run_in_use", args={"path": "/r"}, fatal=True)
print("error[run_in_use]: Somebody trains there.")
sys.exit(1)
""")
    watched = Watched(RunSession(folder, command))
    watched.session.start()
    outcome = watched.wait_end(qtbot)
    assert outcome.problem == Problem("run_in_use", {"path": "/r"})
    assert outcome.last_lines == ("error[run_in_use]: Somebody trains there.",)


def test_a_program_that_is_not_there_is_a_problem(qtbot: QtBot, folder: RunFolder) -> None:
    watched = Watched(RunSession(folder, Command(("/no/such/python",))))
    watched.session.start()
    outcome = watched.wait_end(qtbot)
    assert outcome.status == "failed"
    assert "/no/such/python" in outcome.details()


def test_a_run_that_was_let_go_goes_on_and_the_next_window_stops_it(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    first = Watched(RunSession(folder, fake_trainer(folder.path)))
    first.start(qtbot)
    pid = first.session.pid
    first.session.let_go()
    seen = folder.events.stat().st_size
    qtbot.waitUntil(lambda: folder.events.stat().st_size > seen + 500, timeout=20_000)
    assert folder.is_running()
    second = Watched(RunSession(folder, None, stop_times=PATIENT))
    second.start(qtbot)
    assert second.steps[0] > first.steps[-1]  # from now on; the page reads what was before from the file
    second.session.stop(save=True)
    outcome = second.wait_end(qtbot)
    assert (outcome.status, outcome.exit_code, outcome.problem) == ("stopped", None, None)
    assert second.rungs == ["asked", "acknowledged"]
    assert first.outcomes == []
    assert os.waitpid(pid, 0)[1] == 3 << 8


def test_an_attached_run_can_be_ended_by_its_group(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    with running(fake_trainer(folder.path, "no-stop")) as process:
        qtbot.waitUntil(folder.is_running, timeout=20_000)
        watched = Watched(RunSession(folder, None, stop_times=SHORT_SAVE))
        watched.start(qtbot)
        watched.session.stop(save=False)
        qtbot.waitUntil(lambda: process.poll() is not None, timeout=20_000)
        outcome = watched.wait_end(qtbot)
        assert process.returncode == -signal.SIGTERM
    assert watched.rungs == ["asked", "acknowledged", "terminating"]
    assert (outcome.status, outcome.problem) == ("stopped", None)


def test_an_attached_run_that_dies_is_noticed(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    with running(fake_trainer(folder.path)) as process:
        qtbot.waitUntil(folder.is_running, timeout=20_000)
        watched = Watched(RunSession(folder, None))
        watched.start(qtbot)
        process.kill()
        process.wait()
        outcome = watched.wait_end(qtbot)
    assert (outcome.status, outcome.problem) == ("killed", Problem("killed", {"signal": "?"}))


def test_a_number_that_belongs_to_another_process_is_left_alone(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    """The greeting in the file is of a trainer that is long gone; its number is somebody else's now."""
    with running(Command(("sleep", "60"))) as bystander, folder.lock():
        folder.events.write_text(
            f'{{"v":1,"seq":0,"ts":1000.0,"t":"hello","pid":{bystander.pid},"pgid":{bystander.pid}}}\n'
        )
        watched = Watched(RunSession(folder, None, stop_times=StopTimes(0.1, 0.1, 0.1)))
        watched.session.start()
        watched.session.stop(save=False)
        qtbot.waitUntil(lambda: watched.rungs[-1:] == ["killing"], timeout=20_000)
        assert bystander.poll() is None
        watched.session.let_go()
    assert folder.control.read_text().count("stop") == 1


def test_silence_is_told_and_ends_nothing(qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand) -> None:
    watched = Watched(
        RunSession(folder, fake_trainer(folder.path, "silent"), stop_times=PATIENT, silence_s=0.5)
    )
    watched.session.start()
    qtbot.waitUntil(lambda: "hello" in watched.types and watched.answering[-1:] == [False], timeout=20_000)
    assert psutil.pid_exists(watched.session.pid)
    watched.session.send("save")
    qtbot.waitUntil(lambda: watched.answering[-1:] == [True], timeout=20_000)
    watched.session.stop(save=False)
    assert watched.wait_end(qtbot).status == "stopped"


def test_the_log_is_followed_by_whole_lines(qtbot: QtBot, folder: RunFolder, py_command: MakeCommand) -> None:
    command = py_command(
        """
log = open(sys.argv[1], "ab", buffering=0)
for piece in (b"first\\nsec", b"ond \\xe7\\x95", b"\\x8c\\n", b"1%\\r50%\\r100%\\n"):
    log.write(piece)
    time.sleep(0.15)
""",
        str(folder.log),
    )
    session = RunSession(folder, command)
    lines: list[str] = []
    session.line_received.connect(lines.append)
    watched = Watched(session)
    session.start()
    watched.wait_end(qtbot)
    assert lines == ["first", "second 界", "100%"]


def test_a_resumed_run_tells_only_what_is_new(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    folder.events.write_text(
        '{"v":1,"seq":0,"ts":1.0,"t":"bye","status":"failed","step":3}\n{"v":1,"seq":1,"ts":1.0,"t":"st'
    )
    watched = Watched(RunSession(folder, fake_trainer(folder.path), stop_times=PATIENT))
    watched.start(qtbot)
    watched.session.stop(save=False)
    assert watched.wait_end(qtbot).status == "stopped"
    assert watched.types[0] == "hello"
    assert watched.types.count("bye") == 1


def test_no_timer_is_left(qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand) -> None:
    from PySide6.QtCore import QTimer

    watched = Watched(RunSession(folder, fake_trainer(folder.path), stop_times=PATIENT))
    watched.start(qtbot)
    watched.session.stop(save=False)
    watched.wait_end(qtbot)
    time.sleep(0.05)
    assert not any(timer.isActive() for timer in watched.session.findChildren(QTimer))


WINDOW = """
import sys
from pathlib import Path
sys.path.insert(0, {project!r})
from PySide6.QtCore import QCoreApplication
from runner_gui.services.commands import Command
from runner_gui.services.run_session import RunSession
from trainer.contract.run_folder import RunFolder
app = QCoreApplication([])
session = RunSession(RunFolder(Path(sys.argv[1])), Command(tuple(sys.argv[2:])))
session.event_received.connect(lambda event: print(event.t, flush=True))
session.start()
app.exec()
"""


def test_a_killed_window_takes_nothing_along(
    qtbot: QtBot, folder: RunFolder, fake_trainer: MakeCommand
) -> None:
    code = WINDOW.format(project=str(Path(__file__).resolve().parents[3]))
    argv = [sys.executable, "-c", code, str(folder.path), *fake_trainer(folder.path).argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as window:
        assert window.stdout is not None
        assert window.stdout.readline() == b"hello\n"
        window.kill()
    seen = folder.events.stat().st_size
    qtbot.waitUntil(lambda: folder.events.stat().st_size > seen + 500, timeout=20_000)
    watched = Watched(RunSession(folder, None, stop_times=PATIENT))
    watched.start(qtbot)
    watched.session.stop(save=True)
    assert watched.wait_end(qtbot).status == "stopped"
    assert watched.rungs == ["asked", "acknowledged"]

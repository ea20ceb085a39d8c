from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from pytestqt.qtbot import QtBot

from runner_gui.services.commands import Command
from runner_gui.services.outcome import JobOutcome
from runner_gui.services.process import JobProcess
from trainer.contract.errors import Problem
from trainer.contract.events import Event

MakeCommand = Callable[..., Command]


class Heard:
    """Everything that a job tells, in order."""

    def __init__(self, job: JobProcess) -> None:
        self.all: list[Event | str | JobOutcome] = []
        job.event_received.connect(self.all.append)
        job.line_received.connect(self.all.append)
        job.finished.connect(self.all.append)

    @property
    def events(self) -> list[Event]:
        return [item for item in self.all if isinstance(item, Event)]

    @property
    def lines(self) -> list[str]:
        return [item for item in self.all if isinstance(item, str)]


def run(qtbot: QtBot, command: Command) -> tuple[Heard, JobOutcome]:
    job = JobProcess(command)
    heard = Heard(job)
    with qtbot.waitSignal(job.finished, timeout=20_000) as caught:
        job.start()
    assert heard.all[-1] is caught.args[0]
    assert sum(isinstance(item, JobOutcome) for item in heard.all) == 1
    return heard, caught.args[0]


def test_events_lines_and_the_result_come_apart(qtbot: QtBot, py_command: MakeCommand) -> None:
    heard, outcome = run(
        qtbot,
        py_command("""
print("third party", flush=True)
event("phase", name="reading_data")
print("to the log", file=sys.stderr, flush=True)
print('{"tokens": 5}', flush=True)
"""),
    )
    assert [e.t for e in heard.events] == ["phase"]
    assert sorted(heard.lines) == ["third party", "to the log"]
    assert (outcome.status, outcome.exit_code, outcome.result) == ("completed", 0, {"tokens": 5})


def test_bytes_cut_anywhere_with_noise_between(qtbot: QtBot, py_command: MakeCommand, tmp_path: Path) -> None:
    """Events with Chinese text and lines of others, written in random pieces, arrive whole and in order."""
    rng = random.Random(5)
    stream, sent, noise = b"", [], []
    for number in range(200):
        if rng.random() < 0.3:
            noise.append(f"噪音 {number} ×")
            # Native code may leave half a line before an event.
            stream += noise[-1].encode() + rng.choice([b"\n", b"\r\n", b""])
        text = "界面" * rng.randrange(40) + str(number)
        sent.append(text)
        stream += f'\x1e{{"v":1,"seq":{number},"ts":1.5,"t":"sample","text":"{text}"}}\n'.encode()
    stream += b"\xff\xfe broken bytes\n" + "没有换行".encode()
    cuts = sorted(rng.sample(range(1, len(stream)), 120))
    source = tmp_path / "stream"
    source.write_bytes(stream)
    heard, outcome = run(
        qtbot,
        py_command(
            f"""
data, start = open(sys.argv[1], "rb").read(), 0
for cut in {[*cuts, len(stream)]}:
    os.write(1, data[start:cut])
    start = cut
    time.sleep(0.002)
""",
            str(source),
        ),
    )
    assert [e["text"] for e in heard.events] == sent
    assert heard.lines == [*noise, "\ufffd\ufffd broken bytes", "没有换行"]
    assert outcome.status == "completed"


def test_the_last_words_of_a_killed_child_arrive(qtbot: QtBot, py_command: MakeCommand) -> None:
    heard, outcome = run(
        qtbot,
        py_command(
            'event("phase", name="saving"); print("half", end="", flush=True); os.kill(os.getpid(), 9)'
        ),
    )
    assert [e.t for e in heard.events] == ["phase"]
    assert heard.lines == ["half"]
    assert (outcome.status, outcome.exit_code) == ("killed", -9)
    assert outcome.problem == Problem("killed", {"signal": "SIGKILL"})


def test_an_error_event_on_stderr_brings_its_facts(qtbot: QtBot, py_command: MakeCommand) -> None:
    _, outcome = run(
        qtbot,
        py_command("""
sys.stdout = sys.stderr
event("error", code="data_not_found", args={"path": "/x"}, fatal=True)
print("error[data_not_found]: It is not there.")
sys.exit(2)
"""),
    )
    assert outcome.problem == Problem("data_not_found", {"path": "/x"})
    assert outcome.exit_code == 2


@pytest.mark.parametrize("program", ["/no/such/program", "no-such-program-anywhere"])
def test_a_program_that_is_not_there(qtbot: QtBot, program: str) -> None:
    _, outcome = run(qtbot, Command((program,)))
    assert outcome.status == "failed"
    assert outcome.problem is not None
    assert program in outcome.problem.args["detail"]


def test_commands_reach_it_as_json_lines(qtbot: QtBot, py_command: MakeCommand) -> None:
    job = JobProcess(py_command('print(json.loads(sys.stdin.readline())["cmd"], flush=True)'))
    heard = Heard(job)
    with qtbot.waitSignal(job.finished, timeout=20_000):
        job.start()
        assert job.send({"cmd": "停 stop"})
    assert heard.lines == ["停 stop"]
    assert not job.send({"cmd": "stop"})


def test_argv_cwd_and_environment_arrive_as_they_are(
    qtbot: QtBot, py_command: MakeCommand, tmp_path: Path
) -> None:
    folder = tmp_path / "it's $(touch gone) 数据"
    folder.mkdir()
    nasty = ['"; touch gone', "$(touch gone)", "a\nb", "", "--x=é"]
    made = py_command("print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['RUNNER_X']]))", *nasty)
    heard, _ = run(qtbot, Command(made.argv, folder, {"RUNNER_X": "值"}))
    assert json.loads(heard.lines[0]) == [nasty, str(folder), "值"]
    assert list(tmp_path.rglob("gone")) == []


GRANDCHILD = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
event("phase", name=str(child.pid))
"""


def test_what_it_started_ends_with_it(qtbot: QtBot, py_command: MakeCommand) -> None:
    heard, outcome = run(qtbot, py_command(GRANDCHILD))
    assert outcome.status == "completed"
    _wait_gone(int(heard.events[0]["name"]))


def test_ending_the_group_ends_those_who_do_not_listen(qtbot: QtBot, py_command: MakeCommand) -> None:
    job = JobProcess(py_command("signal.signal(15, signal.SIG_IGN)" + GRANDCHILD + "time.sleep(60)"))
    with qtbot.waitSignal(job.event_received, timeout=20_000) as caught:
        job.start()
    with qtbot.waitSignal(job.finished, timeout=20_000) as ended:
        job.terminate_group(kill_after_s=0.3)
    assert (ended.args[0].status, ended.args[0].exit_code, ended.args[0].problem) == ("stopped", -9, None)
    _wait_gone(int(caught.args[0]["name"]))


def test_close_waits_for_the_end(qtbot: QtBot, py_command: MakeCommand) -> None:
    job = JobProcess(py_command('event("phase", name="x"); time.sleep(60)'))
    with qtbot.waitSignal(job.event_received, timeout=20_000):
        job.start()
    pid = job.pid
    assert os.getpgid(pid) == pid != os.getpgrp()
    job.close()
    assert not job.is_running
    assert not psutil.pid_exists(pid)


def _wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10.0
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)

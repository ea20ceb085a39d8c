"""Jobs as real processes: found again by name, ended with their group, never confused with a stranger."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
import pytest

from wsl_bootstrap.jobs.job import JobLine, WslJob, job_end, job_name

# Says that it is there; a child of its own ignores what is polite. Ends politely unless it is "deaf".
WORKER = """
import signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
quiet = "from signal import *; import time; signal(SIGTERM, SIG_IGN); print(flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", quiet], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def eventually(check: Callable[[], bool], limit_s: float = 15.0) -> None:
    deadline = time.monotonic() + limit_s
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def job(world: Any) -> WslJob:
    return WslJob(world.host, job_name("train", Path("C:/运行/1")), PurePosixPath(world.folder / "records"))


@pytest.fixture
def start() -> Iterator[Callable[[JobLine], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def run(line: JobLine) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            line.argv, env={**os.environ, **line.env}, stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def work(job: WslJob, *words: str) -> JobLine:
    return job.line([sys.executable, "-c", WORKER, *words])


def test_a_job_is_known_by_name_while_it_runs(job: WslJob, start: Any) -> None:
    assert not job.is_alive()
    assert not job.signal(force=False)
    process = start(work(job))
    process.stdout.readline()
    assert job.is_alive()
    assert job.signal(force=True)
    process.wait()
    assert not job.is_alive()


def test_its_output_arrives_byte_for_byte_and_its_input_too(job: WslJob, start: Any) -> None:
    echo = "import sys; sys.stdout.buffer.write(b'\\x1e\\xff\\x00{' + sys.stdin.buffer.readline())"
    line = job.line([sys.executable, "-c", echo])
    done = subprocess.run(line.argv, env={**os.environ, **line.env}, input=b"go \xfe\n", capture_output=True)
    assert done.stdout == b"\x1e\xff\x00{go \xfe\n"


def test_the_environment_goes_through_wslenv(job: WslJob) -> None:
    line = job.line(["true"], {"RUNNER_CACHE": "/opt/cache"})
    assert line.env["RUNNER_CACHE"] == "/opt/cache"
    assert "RUNNER_CACHE/u" in line.env["WSLENV"].split(":")


def test_ending_it_by_force_ends_what_it_started(job: WslJob, start: Any) -> None:
    process = start(work(job, "deaf"))
    child = int(process.stdout.readline())
    assert job.signal(force=False)
    time.sleep(0.3)
    assert job.is_alive()
    assert job.signal(force=True)
    process.wait()
    eventually(lambda: is_gone(child))


def test_children_that_outlive_it_are_still_ended_by_its_name(job: WslJob, start: Any) -> None:
    process = start(work(job))
    child = int(process.stdout.readline())
    job.signal(force=False)  # the job goes, its child ignores that
    process.wait()
    assert not job.is_alive()
    assert not is_gone(child)
    assert job.signal(force=True)
    eventually(lambda: is_gone(child))


def test_a_number_that_passed_to_a_stranger_is_left_alone(job: WslJob, world: Any, start: Any) -> None:
    process = start(work(job))
    process.stdout.readline()
    record = next((world.folder / "records").iterdir())
    pid, began = record.read_text().split()
    record.write_text(f"{pid} {int(began) - 1}\n")
    assert not job.is_alive()
    assert not job.signal(force=True)
    assert process.poll() is None


def test_what_watches_a_job_lasts_as_long_as_the_job(job: WslJob, start: Any) -> None:
    process = start(work(job))
    process.stdout.readline()
    watch = start(job.watch_line())
    time.sleep(1.2)
    assert watch.poll() is None
    job.signal(force=True)
    process.wait()
    assert watch.wait(10) is not None
    assert start(job.watch_line()).wait(10) is not None  # of a job that is gone it ends at once


def test_only_our_own_distribution_is_terminated(world: Any, foreign: Any) -> None:
    assert WslJob(world.host, "a").terminate_distribution()
    assert world.managed() == ["--terminate RwkvLoraRunner"]
    assert not WslJob(foreign.host, "a").terminate_distribution()
    assert foreign.managed() == []


def test_names_are_safe_and_the_same_each_time() -> None:
    name = job_name("train", Path("C:/it's $(x)/运行"))
    assert name == job_name("train", Path("C:/it's $(x)/运行"))
    assert name != job_name("train", Path("C:/it's $(x)/运行2"))
    for odd in ("", "../x", "a b", "名"):
        with pytest.raises(ValueError, match="not the name"):
            WslJob(None, odd)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("returncode", "said", "exit_code", "code"),
    [
        (0, "", 0, None),
        (3, "", 3, None),
        (137, "", -9, None),
        (9, "", -9, None),
        (-1, "灾难性故障\nWsl/Service/E_UNEXPECTED", None, "vm_crashed"),
        (4294967295, "Wsl/Service/WSL_E_DISTRO_NOT_FOUND", None, "distro_gone"),
    ],
)
def test_how_it_ended_is_said_in_one_way(
    returncode: int, said: str, exit_code: int | None, code: str | None
) -> None:
    end = job_end(["wsl.exe"], returncode, said)
    assert end.exit_code == exit_code
    assert (end.code.id if end.code else None) == code

"""Long commands, as real processes on the native host."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.hosts.base import CommandTimeoutError
from wsl_bootstrap.hosts.linux import LinuxHost
from wsl_bootstrap.live import install, run_live
from wsl_bootstrap.step import OutputLine, Plan, StepError


def _python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def hear(lines: list[str]) -> Any:
    def listen(payload: object) -> None:
        assert isinstance(payload, OutputLine)
        lines.append(payload.text)

    return listen


def test_every_line_is_reported_and_the_last_are_kept(hear: Any, lines: list[str]) -> None:
    done = run_live(LinuxHost(), _python("for i in range(60): print(i)"), hear, CancelToken(), timeout_s=30)
    assert lines == [str(i) for i in range(60)]
    assert done.ok
    assert done.stdout.splitlines() == lines[20:]


def test_cancelling_ends_the_process(hear: Any, lines: list[str]) -> None:
    cancel = CancelToken()
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    threading.Timer(0.5, cancel.cancel).start()
    with pytest.raises(CancelledError):
        run_live(LinuxHost(), _python(script), hear, cancel, timeout_s=60)
    assert not Path(f"/proc/{lines[0]}").exists()


def test_too_long_is_a_timeout(hear: Any) -> None:
    with pytest.raises(CommandTimeoutError):
        run_live(LinuxHost(), _python("import time; time.sleep(600)"), hear, CancelToken(), timeout_s=0.3)


def test_an_installation_shows_its_commands_and_stops_at_the_first_failure(
    hear: Any, lines: list[str], tmp_path: Path
) -> None:
    plan = Plan("x", commands=(_python("print('one')"), _python("raise SystemExit('no luck')"), ("never",)))
    with pytest.raises(StepError) as caught:
        install(LinuxHost(), plan, tmp_path, hear, CancelToken())
    assert lines == [
        f"$ {shlex.quote(sys.executable)} -c 'print('\"'\"'one'\"'\"')'",
        "one",
        f"$ {shlex.quote(sys.executable)} -c 'raise SystemExit('\"'\"'no luck'\"'\"')'",
        "no luck",
    ]
    code = caught.value.code
    assert (code.id, code.args["exit_code"], code.args["detail"]) == ("command_failed", 1, "no luck")
    assert code.args["command"] == lines[2].removeprefix("$ ")
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("said", "code_id", "retryable"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk_full", False),
        ("NewConnectionError: Failed to establish a new connection", "download_failed", True),
        ("ReadTimeoutError: HTTPSConnectionPool(...): Read timed out.", "download_failed", True),
        ("urllib3.exceptions.IncompleteRead: IncompleteRead(5 bytes read)", "download_failed", True),
        ("ERROR: ResolutionImpossible", "command_failed", False),
    ],
)
def test_what_pip_says_adds_a_hint(
    host: Any, hear: Any, tmp_path: Path, said: str, code_id: str, retryable: bool
) -> None:
    host.answers["pip"] = (1, said)
    with pytest.raises(StepError) as caught:
        install(host, Plan("x", commands=(("pip", "install"),)), tmp_path, hear, CancelToken())
    assert (caught.value.code.id, caught.value.retryable) == (code_id, retryable)
    assert host.processes[0].stopped == 1


def test_an_installation_waits_for_the_one_of_a_program_that_was_killed(hear: Any, tmp_path: Path) -> None:
    first = 'touch "$0/began"; until [ -e "$0/go" ]; do sleep 0.05; done; touch "$0/ended"'
    place = tmp_path / "环境 here"
    plans = [
        Plan("x", commands=(("sh", "-c", script, str(tmp_path)),)) for script in (first, 'test -e "$0/ended"')
    ]
    with ThreadPoolExecutor() as pool:
        work = [pool.submit(install, LinuxHost(), plans[0], place / "venv", hear, CancelToken())]
        while not (tmp_path / "began").exists():
            time.sleep(0.01)
        work.append(pool.submit(install, LinuxHost(), plans[1], place / "venv", hear, CancelToken()))
        time.sleep(0.3)  # too short a time can only have it pass
        (tmp_path / "go").touch()
        for one in work:
            one.result()


def test_without_room_nothing_is_started(host: Any, hear: Any, lines: list[str], tmp_path: Path) -> None:
    host.free_bytes = 399_000_000
    plan = Plan("x", commands=(("pip", "install"),), disk_bytes=6_500_000_000)
    with pytest.raises(StepError) as caught:
        install(host, plan, tmp_path, hear, CancelToken())
    assert caught.value.code.args == {"path": str(tmp_path), "have_gb": 0.4, "need_gb": 6.5}
    assert (lines, host.commands) == ([], [])
    host.answers["pip"] = (0, "")
    install(host, replace(plan, disk_bytes=399_000_000), tmp_path, hear, CancelToken())
    assert host.commands == [("pip", "install")]

"""From a bare Windows to a tuned model that answers: the programs that a person starts, on a played computer.

What runs inside the distribution is real: apt, pip, PyTorch, the trainer. Takes some minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from wsl_bootstrap.hosts.windows_facts import ScriptedWindows

PROJECT = Path(__file__).resolve().parents[2]
FAILED, NEEDS_RESTART = 1, 4
LIMIT_S = 1500

pytestmark = pytest.mark.timeout(2 * LIMIT_S)


class Person:
    """Starts the programs of the project on a computer, and restarts it."""

    def __init__(self, computer: Any, debian: Path) -> None:
        self.computer = computer
        script = json.loads(computer.file.read_text("utf-8"))
        script["drives"]["D"] = str(PROJECT)
        computer.file.write_text(json.dumps(script), "utf-8")
        computer.set(images={"Ubuntu-24.04": str(debian)}, language="zh")

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        env = {
            **self.computer.env,
            "PYTHONPATH": str(PROJECT),
            "QT_QPA_PLATFORM": "offscreen",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=env, cwd=PROJECT, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def set_up(self) -> subprocess.Popen[str]:
        return self._bootstrap("apply", "--yes")

    def look(self) -> subprocess.Popen[str]:
        return self._bootstrap("status")

    def _bootstrap(self, *words: str) -> subprocess.Popen[str]:
        notes = self.computer.file.parent
        choices = ("--journal", str(notes / "journal.json"), "--options", str(notes / "options.json"))
        return self.start("wsl_bootstrap", *words, "--torch", "cpu", "--language", "en", *choices)

    def calls(self) -> list[str]:
        """Every command line of wsl.exe so far."""
        return self.computer.script()["standin"]["calls"]

    def ends(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        said, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, said

    def restart(self) -> None:
        ScriptedWindows(self.computer.file).restart()


@pytest.fixture
def person(computer: Callable[..., Any], debian: Path) -> Iterator[Person]:
    """Somebody with a Windows 11 on which no part of WSL is enabled."""
    bare = computer(services=[], wsl_package=None)
    yield Person(bare, debian)
    bare.wsl("--unregister", "RwkvLoraRunner")


def test_from_a_bare_windows_to_a_model_that_answers(person: Person) -> None:
    code, said = person.ends(person.set_up())
    assert code == NEEDS_RESTART, said
    person.restart()
    code, said = person.ends(person.set_up())
    assert code == 0, said
    code, said = person.ends(person.set_up())
    assert (code, "    $ " in said) == (0, False), said  # no command is run twice
    # What a look at every step costs is its calls of wsl.exe: some hundredths of a second each on Windows.
    done = len(person.calls())
    person.ends(person.look())
    assert len(person.calls()) - done <= 10
    work = person.computer.drive / "Users" / "user" / "我的 work"
    code, said = person.ends(person.start("runner_gui.headless", "--yes", "--work-dir", str(work)))
    assert code == 0, said
    assert said.count("\nyes") == 4, said
    (run,) = (work / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    (merged,) = (work / "models").glob("*.pth")
    assert merged.stat().st_size > 30e6
    assert any("-m trainer train" in call for call in person.calls())  # inside, not here


DISTRIBUTION, PYTHON, PACKAGES = "Linux distribution", "Python environment", "PyTorch and training packages"
INSTALLS = "--install Ubuntu"
BEFORE_RESTART = ("WSL feature: Working", "WSL feature: Verifying")
# Each state, and the middle of what takes long.
AFTER_RESTART = (
    f"{DISTRIBUTION}: Working", INSTALLS, f"{DISTRIBUTION}: Verifying",
    f"{PYTHON}: Working", f"{PYTHON}: Verifying",
    f"{PACKAGES}: Working", "Collecting torch", f"{PACKAGES}: Verifying",
    "Smoke test: Working", "Smoke test: Verifying",
)  # fmt: skip


def comes_to(process: subprocess.Popen[str], mark: str) -> None:
    """Listen to a set-up until this is said."""
    assert process.stdout is not None
    for line in process.stdout:
        if mark in line:
            break
    else:
        pytest.fail(f"never came to {mark!r}")


def cut_off(person: Person, mark: str, *, power: bool) -> None:
    """Set up until this is said, then kill the program, and cut the power or leave what it has started."""
    process = person.set_up()
    comes_to(process, mark)
    if mark == INSTALLS:  # said before it is begun
        note = person.computer.drive / "Users/user/AppData/Local/RwkvLoraRunner/wsl-at-work.json"
        deadline = time.monotonic() + LIMIT_S
        while not note.exists():
            assert time.monotonic() < deadline
    started = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    if power:
        for one in started:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        person.computer.wsl("--shutdown")


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power cut"])
def test_a_set_up_that_is_cut_off_at_every_transition_is_gone_on_with(
    person: Person, power: bool, record_property: Callable[[str, Any], None]
) -> None:
    for mark in BEFORE_RESTART:
        cut_off(person, mark, power=power)
    assert person.ends(person.set_up())[0] == NEEDS_RESTART
    person.restart()
    for mark in AFTER_RESTART:
        cut_off(person, mark, power=power)
    code, said = person.ends(person.set_up())
    assert code == 0, said
    names = [one["name"] for one in person.computer.facts()["distributions"]]
    assert names == ["RwkvLoraRunner"]
    installs = sum(INSTALLS in call for call in person.computer.script()["standin"]["calls"])
    assert power or installs == 1  # what outlived the program was waited for
    person.computer.wait_until_none_runs()
    for mark in (*BEFORE_RESTART, *AFTER_RESTART):
        _record(record_property, f"{'power cut' if power else 'program killed'} at: {mark}", "ready")


def _record(record_property: Callable[[str, Any], None], scenario: str, outcome: str, code: str = "") -> None:
    """Give a line for the table that scripts/test-wsl ends with."""
    for name, value in (("scenario", scenario), ("outcome", outcome), ("code", code)):
        record_property(name, value)


def test_linux_may_crash_below_a_set_up(person: Person, record_property: Callable[[str, Any], None]) -> None:
    assert person.ends(person.set_up())[0] == NEEDS_RESTART
    person.restart()
    process = person.set_up()
    comes_to(process, "Collecting torch")
    person.computer.wsl("--shutdown")
    code, said = person.ends(process)
    assert code in (0, FAILED), said  # tried again by itself, or told
    code, said = person.ends(person.set_up())
    assert code == 0, said
    _record(record_property, "Linux crashed at: Collecting torch", "ready")


def test_a_helper_that_is_killed_is_asked_for_again(
    person: Person, record_property: Callable[[str, Any], None]
) -> None:
    person.computer.set(dism_s=LIMIT_S)
    process = person.set_up()
    comes_to(process, "WSL feature: Working")
    deadline = time.monotonic() + LIMIT_S
    while not person.computer.script()["standin"].get("elevated"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (helper,) = [c for c in psutil.Process(process.pid).children() if "elevate" in str(c.cmdline())]
    helper.kill()
    code, said = person.ends(process)
    assert code == FAILED, said
    person.computer.set(dism_s=0)
    assert person.ends(person.set_up())[0] == NEEDS_RESTART
    assert len(person.computer.script()["standin"]["elevated"]) == 2
    _record(record_property, "the administrator's helper killed", "needs_reboot", "restart_needed")

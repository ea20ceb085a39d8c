"""The life of processes in a real distribution, on which the set-up's jobs rest, and lists."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Computer  # the folder's own: it is first on the path

from wsl_bootstrap.wsl_errors import failure_code
from wsl_bootstrap.wsl_output import decode

NAME = "trains"
INSIDE = ("-d", NAME, "-u", "root", "-e")
OTHERS = {
    "distributions": [
        {"guid": "{1}", "name": "Ubuntu", "base_path": "C:\\d\\u"},
        {"guid": "{2}", "name": "docker-desktop", "base_path": "C:\\d\\d"},
        {"guid": "{3}", "name": "Old", "base_path": "C:\\d\\o", "flags": 7},
    ],
    "default_distribution": "{2}",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, debian: Path) -> Iterator[Any]:
    """A computer with one distribution, installed once as the set-up does: unpacking takes long."""
    made = Computer(tmp_path_factory.mktemp("trains"))
    made.set(images={"Debian": str(debian)})
    done = made.wsl("--install", "Debian", "--name", NAME, "--location", "C:\\disks")
    assert done.returncode == 0, done
    yield made
    made.wsl("--unregister", NAME)


@pytest.fixture
def trains(installed: Any) -> Iterator[Any]:
    """The installed computer, asleep at first and without a test's wishes."""
    yield installed
    installed.set(idle_s=15.0, faults=[])
    installed.wsl("--shutdown")


def wait_for(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_running(seconds: str) -> bool:
    """Whether a `sleep` of that odd length is alive anywhere on this machine."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                return "State:\tZ" not in (folder / "status").read_text()
        except OSError:
            continue
    return False


def odd_seconds() -> str:
    """A length that no other test, and no other copy of this one, sleeps for."""
    return f"{100_000 + os.getpid()}.{time.monotonic_ns() % 10**6}"


def test_lists(computer: Callable[..., Any]) -> None:
    one = computer(**OTHERS)
    one.set(language="zh")
    assert one.wsl("-l", "-q").stdout.decode().split() == ["docker-desktop", "Ubuntu", "Old"]
    assert "docker-desktop (默认值)" in one.wsl("-l").stdout.decode()
    rows = [line.split() for line in one.wsl("-l", "-v").stdout.decode().splitlines()]
    assert rows == [
        ["NAME", "STATE", "VERSION"],
        ["*", "docker-desktop", "Stopped", "2"],
        ["Ubuntu", "Stopped", "2"],
        ["Old", "Stopped", "1"],
    ]
    assert one.wsl("-s", "Ubuntu").returncode == 0
    assert one.wsl("--set-version", "Old", "2").returncode == 0
    assert one.facts()["default_distribution"] == "{1}"
    assert [known["flags"] for known in one.facts()["distributions"] if known["name"] == "Old"] == [0xF]


def test_a_disk_that_is_gone_is_told_as_that(computer: Callable[..., Any]) -> None:
    said = decode(computer(**OTHERS).wsl("-d", "Ubuntu", "-e", "true").stdout)
    assert failure_code("wsl", 255, said)[0].id == "distro_disk_missing"


def test_a_session_of_its_own_outlives_wsl_exe_until_the_distribution_ends(trains: Any) -> None:
    seconds = odd_seconds()
    wsl = trains.start(*INSIDE, "bash", "-c", f"setsid sh -c 'echo up; exec sleep {seconds}' & wait")
    with wsl:
        assert wsl.stdout.readline() == b"up\n"
        wsl.send_signal(signal.SIGKILL)
    time.sleep(0.5)
    assert is_running(seconds)  # what would go on holding a GPU
    assert trains.wsl("--terminate", NAME).returncode == 0
    assert wait_for(lambda: not is_running(seconds))


def test_a_line_arrives_at_once_and_the_end_of_the_input_ends_nothing(trains: Any) -> None:
    with trains.start(*INSIDE, "sh", "-c", 'read -r x; echo "got $x"; cat; echo end') as wsl:
        wsl.stdin.write(b"stop\n")
        wsl.stdin.flush()
        assert wsl.stdout.readline() == b"got stop\n"
        wsl.stdin.close()
        assert wsl.stdout.readline() == b"end\n"
        assert wsl.wait(timeout=20) == 0


def test_a_second_call_reaches_the_processes_of_the_first(trains: Any) -> None:
    loop = "trap 'exit 5' TERM; echo $$; while :; do sleep .1; done"
    with trains.start(*INSIDE, "bash", "-c", loop) as wsl:
        pid = wsl.stdout.readline().decode().strip()
        assert trains.wsl(*INSIDE, "sh", "-c", 'kill -TERM "$0"', pid).returncode == 0
        assert wsl.wait(timeout=20) == 5


def test_a_command_holds_the_distribution_up_and_its_end_lets_it_fall_asleep(trains: Any) -> None:
    trains.set(idle_s=1.0)
    seconds = odd_seconds()
    with trains.start(*INSIDE, "sh", "-c", "echo up; read -r line") as wsl:
        assert wsl.stdout.readline() == b"up\n"
        # Only once it has its session does the end of the call not hang up on it.
        script = "setsid sh -c 'touch /tmp/$0; exec sleep $0' & until [ -e /tmp/$0 ]; do sleep .1; done"
        trains.wsl(*INSIDE, "sh", "-c", script.replace("$0", seconds))
        time.sleep(2.0)
        assert is_running(seconds)
        wsl.stdin.close()
    # A process that no wsl.exe waits for does not keep it awake.
    assert wait_for(lambda: not is_running(seconds))


def test_orphans_are_buried(trains: Any) -> None:
    script = (
        "(setsid sh -c 'echo $$ > /tmp/orphan; sleep .1' &); sleep 1.5; test ! -e /proc/$(cat /tmp/orphan)"
    )
    assert trains.wsl(*INSIDE, "bash", "-c", script).returncode == 0


def test_the_drive_is_one_on_both_sides(trains: Any) -> None:
    (trains.drive / "from-windows").write_text("a")
    assert trains.wsl(*INSIDE, "cp", "/mnt/c/from-windows", "/mnt/c/from-linux").returncode == 0
    assert (trains.drive / "from-linux").read_text() == "a"


def test_after_a_crash_the_next_call_boots_anew(trains: Any) -> None:
    seconds = odd_seconds()
    trains.set(faults=[{"command": "run", "crash_after_s": 0.5, "once": True}])
    assert trains.wsl(*INSIDE, "sleep", seconds).returncode == 255
    assert wait_for(lambda: not is_running(seconds))
    assert trains.wsl(*INSIDE, "true").returncode == 0


def test_what_is_exported_can_be_imported(trains: Any) -> None:
    trains.wsl(*INSIDE, "sh", "-c", "echo mine > /root/kept")
    assert trains.wsl("--export", NAME, "C:\\out.tar").returncode == 0
    assert trains.wsl("--import", "again", "C:\\again", "C:\\out.tar").returncode == 0
    assert trains.wsl("-d", "again", "-e", "cat", "/root/kept").stdout == b"mine\n"
    assert trains.wsl("--unregister", "again").returncode == 0


def test_python_and_pip_are_those_of_debian(trains: Any) -> None:
    done = trains.wsl(*INSIDE, "python3", "-m", "venv", "/opt/v")
    assert done.returncode == 0, done.stderr.decode()
    told = trains.wsl(*INSIDE, "/opt/v/bin/python", "-m", "pip", "--version").stdout
    assert b"/opt/v/lib/python3" in told

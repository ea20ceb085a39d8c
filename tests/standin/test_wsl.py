"""The stand-in itself: what it says without a distribution, and what happens in a real one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = "own"


def text(done: Any) -> str:
    return done.stdout.decode()


@pytest.fixture
def inside(computer: Callable[..., Any], debian: Path) -> Iterator[Any]:
    """A computer with one distribution."""
    made = computer()
    made.set(images={"Debian": str(debian)})
    done = made.wsl("--install", "Debian", "--name", NAME, "--location", "C:\\disks", "--no-launch")
    assert done.returncode == 0, done
    yield made
    made.wsl("--unregister", NAME)


def test_words_are_utf16_unless_asked_otherwise(computer: Callable[..., Any]) -> None:
    one = computer()
    one.set(language="zh")
    assert one.wsl("--status", env={"WSL_UTF8": "0"}).stdout == "默认版本: 2\r\n".encode("utf-16-le")
    assert one.wsl("--status").stdout == "默认版本: 2\r\n".encode()
    one.set(obeys_utf8=False)
    assert one.wsl("--status").stdout == "默认版本: 2\r\n".encode("utf-16-le")


def test_generations_before_the_stores(computer: Callable[..., Any]) -> None:
    stub = computer(wsl_package=None)
    assert stub.wsl("--status").returncode == 50
    old = computer(wsl_package=None)
    old.set(personality="inbox-old")
    assert old.wsl("--status").returncode == 255  # -1 in eight bits
    assert old.wsl("-l", "-q").returncode == 0
    bare = computer(wsl_package=None)
    bare.set(personality="inbox-no-kernel")
    assert bare.wsl("--status").returncode == -444 & 0xFF


def test_without_the_feature_nothing_is_imported(computer: Callable[..., Any]) -> None:
    one = computer(services=[])
    done = one.wsl("--import", "x", "C:\\x", "C:\\f.tar")
    assert done.returncode == 255
    assert "Wsl/Service/RegisterDistro/CreateVm/HCS/HCS_E_HYPERV_NOT_INSTALLED" in text(done)


def test_what_is_no_archive_leaves_no_entry(computer: Callable[..., Any]) -> None:
    one = computer()
    (one.drive / "f.tar").write_bytes(b"no archive")
    done = one.wsl("--import", "x", "C:\\x", "C:\\f.tar")
    assert "WSL_E_IMPORT_FAILED" in text(done)
    assert one.facts()["distributions"] == []


def test_a_fault_happens_once(computer: Callable[..., Any]) -> None:
    one = computer()
    one.set(faults=[{"command": "--status", "code": "Wsl/Service/E_UNEXPECTED", "once": True}])
    assert "Wsl/Service/E_UNEXPECTED" in text(one.wsl("--status"))
    assert one.wsl("--status").returncode == 0


def test_a_distribution_that_is_not_there(computer: Callable[..., Any]) -> None:
    done = computer().wsl("-d", "none", "-e", "true")
    assert (done.returncode, "Wsl/Service/WSL_E_DISTRO_NOT_FOUND" in text(done)) == (255, True)


def test_streams_codes_and_signals(inside: Any) -> None:
    assert inside.wsl("-d", NAME, "-e", "cat", stdin=b"a \xff\n").stdout == b"a \xff\n"
    assert inside.wsl("-d", NAME, "-e", "sh", "-c", "exit 3").returncode == 3
    assert inside.wsl("-d", NAME, "-e", "sh", "-c", "kill -9 $$").returncode == 9  # the raw wait status
    missing = inside.wsl("-d", NAME, "-e", "no-such-program")
    assert missing.returncode == 127
    assert missing.stderr.startswith(b"<3>WSL")
    assert "WSL_E_USER_NOT_FOUND" in text(inside.wsl("-d", NAME, "-u", "nobody-here", "-e", "true"))


def test_drives_folders_and_variables(inside: Any) -> None:
    (inside.drive / "Users" / "user" / "张 三").mkdir()
    done = inside.wsl("-d", NAME, "--cd", "C:\\Users\\user\\张 三", "-e", "pwd")
    assert text(done) == "/mnt/c/Users/user/张 三\n"
    variables = {"WSLENV": "A/u:B/p:C/w:D/l", "A": "1", "B": "C:\\x y", "C": "no", "D": "C:\\a;C:\\b"}
    script = 'printf "%s|%s|%s|%s" "$A" "$B" "$C" "$D"'
    done = inside.wsl("-d", NAME, "-e", "sh", "-c", script, env=variables)
    assert text(done) == "1|/mnt/c/x y||/mnt/c/a:/mnt/c/b"


def test_the_memory_limit_of_the_person(inside: Any) -> None:
    (inside.drive / "Users" / "user" / ".wslconfig").write_text("[wsl2]\nmemory=3GB # small\n")
    done = inside.wsl("-d", NAME, "-e", "sh", "-c", "grep MemTotal /proc/meminfo")
    assert text(done).split() == ["MemTotal:", str(3 * 2**20), "kB"]


def test_a_killed_wsl_exe_hangs_up_on_its_command(inside: Any) -> None:
    script = 'trap "echo gone > /root/hup; exit" HUP; echo up; while :; do sleep 0.1; done'
    process = inside.start("-d", NAME, "-e", "sh", "-c", script)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait = "for i in 1 2 3 4 5 6 7 8 9; do [ -e /root/hup ] && break; sleep 0.2; done; cat /root/hup"
    assert text(inside.wsl("-d", NAME, "-e", "sh", "-c", wait)) == "gone\n"


def test_nobody_left_means_asleep(inside: Any) -> None:
    inside.set(idle_s=0.5)
    script = "setsid sleep 60 >/dev/null 2>&1 </dev/null & echo started"
    assert text(inside.wsl("-d", NAME, "-e", "sh", "-c", script)) == "started\n"
    deadline = time.monotonic() + 30
    while inside.wsl("-l", "--running", "-q").stdout and time.monotonic() < deadline:
        time.sleep(0.2)
    assert inside.wsl("-l", "--running", "-q").stdout == b""  # a daemon of its own does not keep it awake


def test_terminate_ends_everything(inside: Any) -> None:
    process = inside.start("-d", NAME, "-e", "sh", "-c", "echo up; exec sleep 100")
    assert process.stdout.readline() == b"up\n"
    assert inside.wsl("--terminate", NAME).returncode == 0
    assert process.wait(timeout=30) == 9


def test_a_crash_of_the_machine_is_told(inside: Any) -> None:
    inside.set(faults=[{"command": "run", "crash_after_s": 0.5, "once": True}])
    done = inside.wsl("-d", NAME, "-e", "sleep", "100")
    assert (done.returncode, "Wsl/Service/E_UNEXPECTED" in text(done)) == (255, True)


def test_names_are_taken_once_and_given_up_whole(inside: Any) -> None:
    again = inside.wsl("--install", "Debian", "--name", NAME, "--location", "C:\\other")
    assert "ERROR_ALREADY_EXISTS" in text(again)
    assert inside.wsl("--unregister", NAME).returncode == 0
    assert inside.facts()["distributions"] == []
    assert list((inside.drive / "disks").iterdir()) == []

"""The Windows host, with a program that plays wsl.exe: what it is told and what is made of its answers."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.elevated import Action
from wsl_bootstrap.hosts import this_host
from wsl_bootstrap.hosts.base import (
    CommandNotFoundError,
    CommandTimeoutError,
    ElevationRefusedError,
    GpuFacts,
)
from wsl_bootstrap.hosts.windows import WindowsHost, WslFailedError, automount_root, windows_name
from wsl_bootstrap.hosts.windows_facts import ScriptedWindows, WindowsSnapshot
from wsl_bootstrap.hosts.wsl_paths import PathError
from wsl_bootstrap.live import run_live

# Runs what stands behind -e on this machine, in the folder behind --cd, as the real one does inside.
PLAYER = """#!/bin/sh
cd=
while [ "$1" != -e ]; do
    [ "$1" != --cd ] || { [ "$2" = "~" ] || cd=$2; }
    shift
done
shift
[ -z "$cd" ] || cd "$cd" || exit 1
exec "$@"
"""
# Says what a file says, and ends as it says.
PARROT = "#!/bin/sh\ncat {said}\nexit {code}\n"

OWN = {"guid": "{1}", "name": "Own", "base_path": "C:\\wsl"}


@pytest.fixture
def make_host(tmp_path: Path) -> Callable[..., WindowsHost]:
    def make(player: str = PLAYER, facts: dict | None = None, **script: object) -> WindowsHost:
        (tmp_path / "C").mkdir(exist_ok=True)
        (tmp_path / "wsl.exe").write_text(player)
        (tmp_path / "wsl.exe").chmod(0o755)
        everything = {
            "facts": {"boot_id": "b1", "distributions": [OWN], **(facts or {})},
            "drives": {"C": str(tmp_path / "C")},
            **script,
        }
        (tmp_path / "facts.json").write_text(json.dumps(everything), "utf-8")
        return WindowsHost(ScriptedWindows(tmp_path / "facts.json"), "Own", wsl=str(tmp_path / "wsl.exe"))

    return make


def _parrot(tmp_path: Path, said: bytes, code: int) -> str:
    (tmp_path / "said").write_bytes(said)
    return PARROT.format(said=tmp_path / "said", code=code)


def test_the_command_line_names_everything_and_quotes_nothing(make_host: Callable[..., WindowsHost]) -> None:
    host = make_host()
    line = host.command(["python3", "-c", "print('a b')"], PurePosixPath("/opt/x y"))
    assert line[1:] == [
        *("-d", "Own", "-u", "root", "--cd", "/opt/x y", "-e"),
        *("python3", "-c", "print('a b')"),
    ]
    assert host.command(["true"])[5:7] == ["--cd", "~"]
    assert host.command(["true"], PureWindowsPath("/"))[6] == "/"  # what Path("/") is on Windows


def test_by_default_it_is_the_wsl_exe_of_system32(make_host: Callable[..., WindowsHost]) -> None:
    windows = make_host(facts={"system_root": "D:\\Windows"}).windows
    assert WindowsHost(windows, "Own").wsl.path == r"D:\Windows\System32\wsl.exe"


def test_commands_run_inside(make_host: Callable[..., WindowsHost], tmp_path: Path) -> None:
    host = make_host()
    done = host.run(
        ["sh", "-c", 'echo "$A|$LANG|$WSLENV"; pwd; cat; echo bad >&2; exit 3'],
        timeout_s=10,
        env={"A": "训 练"},
        cwd=tmp_path,
        stdin=b"in",
    )
    assert done.exit_code == 3
    assert done.stdout == f"训 练|C.UTF-8|LANG/u:PYTHONUTF8/u:A/u\n{tmp_path}\nin"
    assert done.stderr == "bad\n"
    assert done.argv[0] == "sh"


def test_a_persons_own_wslenv_is_kept(
    make_host: Callable[..., WindowsHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WSLENV", "MINE/p")
    assert make_host().environment({"A": "1"})["WSLENV"] == "MINE/p:LANG/u:PYTHONUTF8/u:A/u"


def test_signals_time_outs_and_missing_programs(make_host: Callable[..., WindowsHost]) -> None:
    host = make_host()
    assert host.run(["sh", "-c", "kill -9 $$"], timeout_s=10).exit_code == -9
    with pytest.raises(CommandNotFoundError):
        host.run(["no-such-program"], timeout_s=10)
    assert host.run(["sh", "-c", "exit 127"], timeout_s=10).exit_code == 127
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError):
        host.run(["sleep", "60"], timeout_s=1)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "said",
    [
        "虚拟机已意外终止。\r\n错误代码: Wsl/Service/E_UNEXPECTED\r\n".encode("utf-16-le"),
        b"x\r\nError code: Wsl/Service/E_UNEXPECTED\r\n",
    ],
)
def test_a_failure_of_wsl_itself_is_told_by_its_code(
    make_host: Callable[..., WindowsHost], tmp_path: Path, said: bytes
) -> None:
    host = make_host(_parrot(tmp_path, said, 255))
    for call in (lambda: host.run(["true"], timeout_s=5), lambda: host.start(["true"])):
        with pytest.raises(WslFailedError) as failed:
            call()
        assert failed.value.code.id == "vm_crashed"
        assert failed.value.code.args["token"] == "Wsl/Service/E_UNEXPECTED"


def test_a_management_command_that_fails_is_told_too(
    make_host: Callable[..., WindowsHost], tmp_path: Path
) -> None:
    host = make_host(_parrot(tmp_path, b"", 50))
    with pytest.raises(WslFailedError) as failed:
        host.wsl.manage("--status", timeout_s=5)
    assert failed.value.code.id == "wsl_not_installed"


@pytest.mark.parametrize(
    "distributions", [[], [{**OWN, "flags": 7}], [{**OWN, "state": 3}], [{**OWN, "name": "Other"}]]
)
def test_without_the_distribution_nothing_is_started(
    make_host: Callable[..., WindowsHost], distributions: list
) -> None:
    host = make_host("#!/bin/sh\nexit 99\n", {"distributions": distributions})
    assert not host.has_distribution
    with pytest.raises(CommandNotFoundError):
        host.run(["true"], timeout_s=5)
    with pytest.raises(CommandNotFoundError):
        host.start(["true"])
    with pytest.raises(CommandNotFoundError):
        host.free_disk_bytes(PurePosixPath("/"))
    assert host.gpu_facts() == GpuFacts()


def test_a_process_gives_its_lines_and_its_end(make_host: Callable[..., WindowsHost]) -> None:
    lines: list[object] = []
    done = run_live(
        make_host(), ["sh", "-c", "echo one; echo 二 >&2; exit 4"], lines.append, CancelToken(), timeout_s=10
    )
    assert (done.exit_code, done.stdout) == (4, "one\n二")
    with pytest.raises(CommandNotFoundError):
        make_host().start(["no-such-program"])


@pytest.mark.parametrize("trap", ["", "trap '' TERM HUP;"])
def test_stopping_ends_the_whole_group_inside(make_host: Callable[..., WindowsHost], trap: str) -> None:
    process = make_host().start(["sh", "-c", f"{trap} sleep 300 & echo $!; {trap} wait; sleep 300"])
    child = int(process.read_line(10) or 0)
    assert os.getpgid(child) == process.pid
    process.stop(grace_s=0.3)
    assert process.exit_code is not None
    assert process.exit_code < 0
    deadline = time.monotonic() + 5
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(child)
    process.stop(grace_s=0.3)  # again is harmless


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_facts_are_those_of_windows(make_host: Callable[..., WindowsHost]) -> None:
    facts = make_host(facts={"build": 22631, "revision": 5, "edition": "Core"}).facts()
    assert (facts.os, facts.os_name, facts.os_build, facts.boot_id) == (
        *("windows", "Windows 11 Core", "22631.5", "b1"),
    )


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"build": 19045, "edition": "EnterpriseS"}, "Windows 10 EnterpriseS"),
        ({"build": 20348, "server": True}, "Windows Server 2022"),
        ({"build": 12345, "server": True}, "Windows Server"),
    ],
)
def test_names(facts: dict, name: str) -> None:
    assert windows_name(WindowsSnapshot(boot_id="", **facts)) == name


def test_room_and_memory(make_host: Callable[..., WindowsHost]) -> None:
    host = make_host(volumes={"C": {"free_bytes": 1000}})
    assert host.free_disk_bytes(PurePosixPath("/no/such/folder")) == 1000
    host = make_host(volumes={"C": {"free_bytes": 10**18}})
    assert 10**6 < host.free_disk_bytes(PurePosixPath("/no/such/folder")) < 10**18
    assert (host.linux_memory_bytes() or 0) > 10**8


def test_paths_go_through_both_names(make_host: Callable[..., WindowsHost], tmp_path: Path) -> None:
    host = make_host(
        volumes={"N": {"free_bytes": 1, "kind": "network"}, "S": {"free_bytes": 1, "kind": "subst"}},
        drives={letter: str(tmp_path / letter) for letter in "CNS"},
    )
    assert host.to_linux_path(tmp_path / "C" / "a b.txt") == "/mnt/c/a b.txt"
    assert host.to_host_path("/mnt/c/a b.txt") == tmp_path / "C" / "a b.txt"
    for letter, code_id in (("N", "path_on_network"), ("S", "path_on_subst")):
        with pytest.raises(PathError) as refused:
            host.to_linux_path(tmp_path / letter / "x")
        assert refused.value.code.id == code_id


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("", "/mnt/"),
        ("[automount]\nroot = /\n", "/"),
        ('[automount]\nroot="/drives/" # mine\noptions = "metadata"\n', "/drives/"),
        ("[automount]\nroot = drives\n", "/mnt/"),
        ("not a file of settings", "/mnt/"),
    ],
)
def test_wsl_conf(text: str, root: str) -> None:
    assert automount_root(text) == root


def test_rights(make_host: Callable[..., WindowsHost]) -> None:
    host = make_host(elevation={"exit_code": 3010})
    assert host.elevate_actions([Action.ENABLE_FEATURES], timeout_s=5) == 3010
    with pytest.raises(ElevationRefusedError):
        host.elevate(["format.com", "C:"], timeout_s=5)
    with pytest.raises(ElevationRefusedError):
        make_host(elevation={"exit_code": 1223}).elevate_actions([Action.ENABLE_FEATURES], timeout_s=5)


def test_only_web_pages_are_opened(make_host: Callable[..., WindowsHost]) -> None:
    with pytest.raises(ValueError, match="not a web page"):
        make_host().open_link("file:///etc/passwd")


def test_gpu_first_on_windows_then_inside(make_host: Callable[..., WindowsHost], tmp_path: Path) -> None:
    tool = tmp_path / "C" / "Windows" / "System32" / "nvidia-smi.exe"
    host = make_host()
    assert host.gpu_facts() == GpuFacts()
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho 'RTX 4090, 24564, 566.36, 8.9'\n")
    tool.chmod(0o755)
    inside = make_host().gpu_facts()
    assert (inside.gpus, inside.driver_version, inside.problem) == ((), "566.36", "/dev/dxg")
    before = make_host(facts={"distributions": []}).gpu_facts()  # it decides what would be installed
    assert (before.gpus[0].name, before.gpus[0].compute_capability) == ("RTX 4090", (8, 9))
    tool.write_text("#!/bin/sh\necho broken; exit 9\n")
    assert make_host().gpu_facts() == GpuFacts(problem="broken")


def test_the_environment_chooses_the_host(
    make_host: Callable[..., WindowsHost], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_host()
    monkeypatch.setenv("RUNNER_WINDOWS_FACTS", str(tmp_path / "facts.json"))
    monkeypatch.setenv("RUNNER_WSL_EXE", str(tmp_path / "wsl.exe"))
    host = this_host("Own")
    assert isinstance(host, WindowsHost)
    assert host.run(["echo", "hello"], timeout_s=10).stdout == "hello\n"
    if sys.platform == "linux":
        monkeypatch.delenv("RUNNER_WINDOWS_FACTS")
        assert this_host().facts().os == "linux"

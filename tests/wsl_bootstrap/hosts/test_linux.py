"""The native host on the machine that runs the tests."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import psutil
import pytest

from wsl_bootstrap.hosts import linux, this_host
from wsl_bootstrap.hosts.base import CommandNotFoundError, ElevationRefusedError, Gpu, GpuFacts
from wsl_bootstrap.hosts.linux import LinuxHost, parse_nvidia_smi


@pytest.fixture
def native() -> LinuxHost:
    return LinuxHost()


def _program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_this_machine_is_linux() -> None:
    assert isinstance(this_host(), LinuxHost)


def test_facts_are_those_of_this_machine(native: LinuxHost) -> None:
    facts = native.facts()
    assert facts.os == "linux"
    assert facts.os_build == platform.release()
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert len(facts.boot_id) == 36
    assert facts.cpu_count == len(os.sched_getaffinity(0))
    assert 0 < facts.memory_available_bytes <= facts.memory_total_bytes <= psutil.virtual_memory().total
    assert native.facts().boot_id == facts.boot_id


@pytest.mark.parametrize(("limit", "expected_bytes"), [("1000000", 1_000_000), ("max", None)])
def test_a_containers_limit_is_the_memory_there_is(
    native: LinuxHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, expected_bytes: int | None
) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    monkeypatch.setattr(linux, "_CGROUP_LIMIT", tmp_path / "memory.max")
    facts = native.facts()
    assert facts.memory_total_bytes == (expected_bytes or psutil.virtual_memory().total)
    assert facts.memory_available_bytes <= facts.memory_total_bytes


def test_free_space_is_that_of_the_nearest_folder_there_is(native: LinuxHost, tmp_path: Path) -> None:
    missing = tmp_path / "not" / "yet" / "made"
    assert abs(native.free_disk_bytes(missing) - shutil.disk_usage(tmp_path).free) < 10**9
    assert not missing.parent.exists()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            'echo "NVIDIA H100 80GB HBM3, 81559, 570.86.15, 9.0"; echo "Tesla T4, 15360, 570.86.15, 7.5"',
            GpuFacts(
                (
                    Gpu("NVIDIA H100 80GB HBM3", 81559 * 2**20, (9, 0)),
                    Gpu("Tesla T4", 15360 * 2**20, (7, 5)),
                ),
                "570.86.15",
            ),
        ),
        ('echo "No devices were found"; exit 6', GpuFacts(problem="No devices were found")),
        ("exit 9", GpuFacts(problem="exit 9")),
    ],
)
def test_the_driver_is_asked_through_its_tool(
    native: LinuxHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, expected: GpuFacts
) -> None:
    _program(tmp_path, "nvidia-smi", script)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert native.gpu_facts() == expected


def test_a_driver_that_hangs_is_a_problem_and_not_a_wait(
    native: LinuxHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _program(tmp_path, "nvidia-smi", "sleep 600")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(linux, "_NVIDIA_TIMEOUT_S", 0.5)
    facts = native.gpu_facts()
    assert facts.gpus == ()
    assert "command_timeout" in facts.problem


def test_without_the_tool_there_is_no_gpu(native: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "_NVIDIA_SMI", ("no-such-nvidia-smi",))
    assert native.gpu_facts() == GpuFacts()


def test_a_gpu_that_cannot_tell_its_numbers_does_not_hide_the_others() -> None:
    answer = "Quadro, with a comma, 8192, 550.1, 8.6\nBroken, [N/A], 550.1, [N/A]\n\n"
    assert parse_nvidia_smi(answer) == GpuFacts(
        (Gpu("Quadro, with a comma", 8192 * 2**20, (8, 6)),), "550.1", "Broken, [N/A], 550.1, [N/A]"
    )


def test_commands_run_and_start(native: LinuxHost) -> None:
    assert native.run(["echo", "a b"], timeout_s=10).stdout == "a b\n"
    process = native.start(["echo", "a b"])
    assert process.read_line(10) == "a b"
    process.stop(1)


def test_root_needs_no_question(native: LinuxHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert native.elevate(["echo", "as root"], timeout_s=10).stdout == "as root\n"


@pytest.mark.parametrize(("exit_code", "refused"), [(126, True), (127, True), (3, False)])
def test_others_are_asked_by_polkit(
    native: LinuxHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, exit_code: int, refused: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ElevationRefusedError):  # nobody there to ask
        native.elevate(["ls"], timeout_s=10)
    _program(tmp_path, "pkexec", f'echo "$1"; exit {exit_code}')
    if refused:
        with pytest.raises(ElevationRefusedError) as caught:
            native.elevate(["ls", "-l"], timeout_s=10)
        assert caught.value.code.args == {"command": "ls -l"}
    else:
        done = native.elevate(["ls", "-l"], timeout_s=10)
        assert (done.exit_code, done.stdout) == (exit_code, "ls\n")


def test_paths_are_the_same_on_both_sides(native: LinuxHost) -> None:
    path = Path("/data/a b/训练")
    assert native.to_linux_path(path) == "/data/a b/训练"
    assert native.to_host_path("/data/a b/训练") == path


def test_only_web_pages_are_opened(
    native: LinuxHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for link in ("file:///etc/passwd", "--help", "javascript:alert(1)"):
        with pytest.raises(ValueError, match="not a web page"):
            native.open_link(link)
    with pytest.raises(CommandNotFoundError):
        native.open_link("https://example.org/")
    _program(
        tmp_path,
        "xdg-open",
        f'echo "$1" > "{tmp_path}/opened.part"; /bin/mv "{tmp_path}/opened.part" "{tmp_path}/opened"',
    )
    native.open_link("https://example.org/?a=b&c")
    for _ in range(200):
        if (tmp_path / "opened").exists():
            break
        native.run(["/bin/sleep", "0.02"], timeout_s=5)
    assert (tmp_path / "opened").read_text() == "https://example.org/?a=b&c\n"

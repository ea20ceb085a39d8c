"""The command line, run as people run it: in a process of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IDS = [
    "windows_version",
    "virtualization",
    "wsl_feature",
    "wsl_version",
    "distro",
    "memory",
    "disk",
    "gpu",
    "network",
    "python_env",
    "torch_env",
    "smoke_test",
]


def _argv(tmp_path: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "wsl_bootstrap", *arguments, "--journal", str(tmp_path / "setup.json")]


def _call(tmp_path: Path, *arguments: str, locale: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _argv(tmp_path, *arguments),
        cwd=ROOT,
        env={**os.environ, "LC_ALL": locale, "PYTHONUTF8": "1"},
        input="",
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def _environment(tmp_path: Path, doctor: str) -> Path:
    """Make an environment whose interpreter is this one, but whose `-m trainer` is `doctor`, a shell line."""
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-m trainer" ] && {{ {doctor}; }}\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    return folder


def test_status_tells_where_every_step_stands(tmp_path: Path) -> None:
    done = _call(tmp_path, "status", "--json", "--torch", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout.splitlines()[-1])
    states = {step["id"]: step["state"] for step in answer["steps"]}
    assert list(states) == IDS
    assert {states[step_id] for step_id in IDS[:5]} == {"not_needed"}
    assert states["python_env"] == "satisfied"
    assert (answer["ready"], answer["obstacle"], states["smoke_test"]) == (False, "smoke_test", "missing")
    assert not (tmp_path / "setup.json").exists()  # looking leaves no trace


def test_status_speaks_the_persons_language(tmp_path: Path) -> None:
    english = _call(tmp_path, "status", "--venv", str(tmp_path / "none"))
    chinese = _call(tmp_path, "status", "--venv", str(tmp_path / "none"), locale="zh_CN.UTF-8")
    assert "– Windows version: Not needed here\n" in english.stdout
    assert "○ Python environment: To do · No Python environment yet\n" in english.stdout
    assert "· PyTorch and training packages: Not checked · needs the steps before it\n" in english.stdout
    assert english.stdout.endswith("Next: Python environment (To do)\n")
    assert "○ Python 环境: 待完成 · 还没有 Python 环境\n" in chinese.stdout
    assert f"    原因: 将在 {tmp_path / 'none'} 中创建，系统自带的 Python 不受影响。\n" in chinese.stdout


def test_plan_tells_commands_and_costs_and_does_nothing(tmp_path: Path) -> None:
    venv = tmp_path / "none"
    done = _call(tmp_path, "plan", "--json", "--venv", str(venv), "--torch", "cpu")
    answer = json.loads(done.stdout)
    assert [plan["step"] for plan in answer["plans"]] == ["python_env", "torch_env", "smoke_test"]
    assert answer["plans"][0]["commands"][0] == [sys.executable, "-m", "venv", str(venv)]
    assert answer["download_bytes"] == sum(plan["download_bytes"] for plan in answer["plans"]) > 10**8
    assert (answer["admin"], answer["reboot"]) == (False, False)
    assert not venv.exists()
    text = _call(tmp_path, "plan", "--venv", str(venv), "--torch", "cpu").stdout
    assert f"    $ {shlex.quote(sys.executable)} -m venv {venv}\n" in text
    assert text.endswith("In all: 480 MB to download, 1900 MB on disk.\n")


def test_apply_asks_and_takes_silence_for_a_no(tmp_path: Path) -> None:
    done = _call(tmp_path, "apply", "--venv", str(tmp_path / "none"))
    assert done.returncode == 3
    assert done.stdout.endswith("Go ahead? [y/N] Nothing was changed.\n")
    assert not (tmp_path / "none").exists()


def test_apply_with_nothing_to_pay_for_asks_nothing(tmp_path: Path) -> None:
    venv = _environment(tmp_path, 'echo \'{"ok": true, "checks": [{"id": "kernel", "ok": true}]}\'; exit 0')
    done = _call(tmp_path, "apply", "--json", "--venv", str(venv), "--torch", "cpu")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ready"]
    assert '"id": "kernel"' in done.stderr  # the live output


def test_doctor_installs_nothing(tmp_path: Path) -> None:
    done = _call(tmp_path, "doctor", "--json", "--venv", str(tmp_path / "none"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["obstacle"] == "python_env"
    assert not (tmp_path / "none").exists()


def test_doctor_says_what_failed(tmp_path: Path) -> None:
    verdict = '{"ok": false, "checks": [{"id": "kernel", "ok": false, "detail": "off by 0.3"}]}'
    venv = _environment(tmp_path, f"echo '{verdict}'; exit 1")
    done = _call(tmp_path, "doctor", "--venv", str(venv), "--torch", "cpu")
    assert done.returncode == 1
    assert "✗ Smoke test: Failed · The smoke test failed\n" in done.stdout
    assert "    kernel: off by 0.3\n" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_told_to_stop_ends_the_work_and_everything_it_started(tmp_path: Path, number: int) -> None:
    venv = _environment(tmp_path, 'echo "pid $$"; sleep 600; exit 0')
    with subprocess.Popen(
        _argv(tmp_path, "doctor", "--venv", str(venv), "--torch", "cpu"),
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("    pid "))
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(30) == 3
    assert "Stopped. What was finished is kept.\n" in rest
    for _ in range(100):
        if not Path("/proc", line.split()[1]).exists():
            return
        time.sleep(0.05)
    pytest.fail("what it had started still runs")


def test_our_own_distribution_is_removed_after_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"guid": "{1}", "name": "RwkvLoraRunner", "base_path": "C:\\wsl"}
    theirs = {"guid": "{2}", "name": "Ubuntu", "base_path": "C:\\u"}
    facts = {"facts": {"boot_id": "1", "distributions": [own, theirs]}, "drives": {"C": str(tmp_path)}}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    player = tmp_path / "wsl.exe"
    player.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(tmp_path / "calls"))}\n')
    player.chmod(0o755)
    monkeypatch.setenv("RUNNER_WINDOWS_FACTS", str(tmp_path / "facts.json"))
    monkeypatch.setenv("RUNNER_WSL_EXE", str(player))
    assert _call(tmp_path, "remove", "--language", "en").returncode == 3  # silence is a no
    assert not (tmp_path / "calls").exists()
    done = _call(tmp_path, "remove", "--yes", "--language", "en")
    assert (done.returncode, "RwkvLoraRunner is removed" in done.stdout) == (0, True)
    assert (tmp_path / "calls").read_text() == "--unregister RwkvLoraRunner\n"


@pytest.mark.parametrize("arguments", [(), ("fly",), ("status", "--torch", "rocm")])
def test_wrong_usage_is_exit_code_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert _call(tmp_path, *arguments).returncode == 2

"""Real processes: their ends, their words, and everything that they started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from wsl_bootstrap.hosts.base import CommandNotFoundError, CommandTimeoutError
from wsl_bootstrap.hosts.process import LocalProcess, run_to_end

# Starts a child of its own that never ends, tells both ids, and ignores a polite request.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def _python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def _gone(pid: int) -> bool:
    """Return whether a process ends within a few seconds; a zombie that nobody reaps has ended."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def _lines(process: LocalProcess) -> list[str]:
    lines: list[str] = []
    while not process.drained:
        line = process.read_line(0.2)
        if line is not None:
            lines.append(line)
    return lines


def test_output_exit_code_environment_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    script = (
        "import os, sys; print(os.environ['KEPT'], os.environ['ADDED'], os.getcwd());"
        "print('坏', file=sys.stderr); sys.exit(7)"
    )
    done = run_to_end(
        _python(script), timeout_s=30, env={"ADDED": "$(a) 'b'", "PYTHONUTF8": "1"}, cwd=tmp_path
    )
    assert (done.exit_code, done.ok) == (7, False)
    assert done.stdout == f"kept $(a) 'b' {tmp_path}\n"
    assert done.stderr == "坏\n"
    assert 0 < done.wall_s < 30


def test_bytes_that_are_no_text_do_no_harm() -> None:
    done = run_to_end(_python("import os; os.write(1, b'a\\xff\\xfeb')"), timeout_s=30)
    assert done.stdout == "a\ufffd\ufffdb"


def test_stdin_is_empty() -> None:
    assert (
        run_to_end(_python("print(repr(input.__self__) and open(0).read() == '')"), timeout_s=30).stdout
        == "True\n"
    )


def test_a_signal_is_a_negative_exit_code() -> None:
    assert run_to_end(_python("import os; os.kill(os.getpid(), 9)"), timeout_s=30).exit_code == -9


@pytest.mark.parametrize("program", ["no-such-program", "/", "/etc/hostname"])
def test_what_cannot_be_run_is_told_by_name(program: str) -> None:
    with pytest.raises(CommandNotFoundError) as caught:
        run_to_end([program, "x"], timeout_s=5)
    assert caught.value.code.args == {"command": program}
    with pytest.raises(CommandNotFoundError):
        LocalProcess([program])


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    script = STUBBORN.replace(
        "print(os.getpid(), child.pid, flush=True)",
        f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')",
    )
    began = time.monotonic()
    with pytest.raises(CommandTimeoutError) as caught:
        run_to_end(_python(script), timeout_s=1.5)
    assert time.monotonic() - began < 10
    assert caught.value.code.args["timeout_s"] == 1.5
    assert caught.value.retryable
    assert all(_gone(int(pid)) for pid in note.read_text().split())


def test_lines_come_as_they_are_printed() -> None:
    process = LocalProcess(
        _python(
            "import sys\nfor i in range(3): print('line', i, flush=True); input_ = sys.stderr.write('e\\n')"
        )
    )
    assert _lines(process) == ["line 0", "e", "line 1", "e", "line 2", "e"]
    assert process.exit_code == 0


def test_nothing_in_time_is_none_and_not_the_end() -> None:
    process = LocalProcess(_python("import time; time.sleep(600)"))
    assert process.read_line(0.05) is None
    assert (process.drained, process.exit_code) == (False, None)
    process.stop(5)
    assert (process.drained, process.exit_code) == (True, -15)


def test_stopping_ends_even_the_stubborn_and_their_children() -> None:
    process = LocalProcess(_python(STUBBORN))
    line = process.read_line(30)
    assert line is not None
    parent, child = map(int, line.split())
    assert parent == process.pid == os.getpgid(child)
    process.stop(0.2)
    process.stop(0.2)
    assert process.exit_code == -9
    assert _gone(child)


def test_a_child_that_keeps_the_pipe_open_is_not_waited_for() -> None:
    child = "import time; time.sleep(600)"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); print('done')"
    process = LocalProcess(_python(script))
    began = time.monotonic()
    assert _lines(process) == ["done"]
    assert time.monotonic() - began < 20
    assert process.exit_code == 0
    process.stop(1)

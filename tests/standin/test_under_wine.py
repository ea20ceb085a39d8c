"""The played wsl.exe as a program of Windows: seen from a Windows Python under Wine, and by our own host."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE

NAME = "own"
REASON = "needs wine, a Windows Python and mingw's wsl.exe: run scripts/test-wsl where they can be had"


@pytest.fixture
def windows(computer: Callable[..., Any], debian: Path) -> Iterator[Any]:
    """A computer with a distribution, and the environment of programs on its Windows side."""
    wsl = os.environ.get("RUNNER_WINDOWS_WSL")
    if wsl is None:
        pytest.skip(REASON)
    made = computer()
    # Wine's own drive C is the one that is played, so both sides mean the same files.
    script = made.script()
    script["drives"]["C"] = str(Path(os.environ["WINEPREFIX"], "drive_c"))
    made.file.write_text(json.dumps(script), "utf-8")
    made.set(images={"Debian": str(debian)})
    where = f"C:\\standin-{os.getpid()}"
    done = made.wsl("--install", "Debian", "--name", NAME, "--location", where, "--no-launch")
    assert done.returncode == 0, done
    relay = subprocess.Popen(
        [sys.executable, HERE / "relay.py"], env=made.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert relay.stdout is not None
    with relay:
        made.windows_env = {
            **os.environ,
            "RUNNER_STANDIN_PORT": relay.stdout.readline().decode().strip(),
            "RUNNER_WINDOWS_FACTS": as_windows(made.file),
            "PYTHONPATH": os.environ["RUNNER_WINDOWS_PATH"],
            "PYTHONUTF8": "1",
        }
        made.windows_wsl = as_windows(Path(wsl))
        yield made
    made.wsl("--unregister", NAME)


def as_windows(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


@pytest.mark.timeout(900)
def test_windows_programs_reach_it(windows: Any) -> None:
    (Path(os.environ["WINEPREFIX"], "drive_c") / "张 三").mkdir(exist_ok=True)
    python = shlex.split(os.environ["RUNNER_WINDOWS_PYTHON"])
    done = subprocess.run(
        [*python, as_windows(HERE / "under_wine.py"), windows.windows_wsl, NAME],
        env=windows.windows_env, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    found = json.loads(done.stdout.decode("utf-8").splitlines()[-1])
    assert found["exact"]
    assert found["streams"] == ["out", "err"]
    code, said = found["own_failure"]
    assert code == 0xFFFFFFFF  # the whole of -1, which Linux cannot show
    assert "Wsl/Service/WSL_E_DISTRO_NOT_FOUND" in base64.b64decode(said).decode("utf-16-le")
    assert found["ends"] == [3, 9, 15]
    assert found["missing_program"] == 127
    assert found["passed"] == "/mnt/c/x y/z|字|"
    assert found["conversation"] == ["got stop\n", "end\n", "0"]
    assert found["killed"] == "hung up\n"
    assert found["host"] == {
        "run": "a b|$HOME \"' \\",
        "cwd": "/mnt/c/张 三\n",
        "line": "from the job",
        "stopped": True,
        "job": [True, 15, False],
        "refused": "distro_gone",
    }

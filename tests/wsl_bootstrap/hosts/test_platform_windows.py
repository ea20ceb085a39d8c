"""The calls into Windows, where a Windows Python can be run under Wine.

`RUNNER_WINDOWS_PYTHON` is the command that starts one (`wine C:/python/python.exe`), `RUNNER_WINDOWS_PATH`
the folders that it imports from: this checkout and the packages of the window, as it names them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

PYTHON = os.environ.get("RUNNER_WINDOWS_PYTHON")


@pytest.mark.skipif(PYTHON is None, reason="no Windows Python to run (RUNNER_WINDOWS_PYTHON)")
def test_the_calls_into_windows() -> None:
    done = subprocess.run(
        [*shlex.split(PYTHON or ""), str(Path(__file__).with_name("windows_calls.py"))],
        env={**os.environ, "PYTHONPATH": os.environ.get("RUNNER_WINDOWS_PATH", ""), "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,  # pipes: a Windows Python under Wine does not start with a file for its output
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    found = json.loads(done.stdout.decode("utf-8").strip().splitlines()[-1])
    snapshot = found["snapshot"]
    assert snapshot["build"] >= 7600
    assert snapshot["machine"] == "AMD64"
    assert snapshot["memory_total_bytes"] > 10**9
    assert snapshot["account"] == "own"
    assert int(snapshot["boot_id"]) > 10**9
    assert found["same_boot"]
    played = next(one for one in snapshot["distributions"] if one["name"] == "Played")
    assert (played["base_path"], played["guid"], played["flags"]) == ("C:\\d", "{0}", 15)
    assert snapshot["components_pending"] == ["VirtualMachinePlatform"]
    assert found["volumes"] == ["fixed", "fixed", "missing", "network"]
    assert found["services"] == [True, False]
    assert re.fullmatch(r"\d+(\.\d+){3}", found["version"])
    assert found["no_version"] is None
    assert found["elevated"] == 3010
    assert found["refused"] == 87
    assert found["run_once"] == '"C:\\a b\\pythonw.exe" -m runner_gui'
    assert found["run"] == [5, "hello \n"]
    assert (found["line"], found["stopped"]) == ("one", 1)

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def doctor(**env: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "doctor", "--json"],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **env},
    )  # fmt: skip
    report = json.loads(done.stdout)
    return done.returncode, {"ok": report["ok"], **{check["id"]: check for check in report["checks"]}}


def test_a_working_environment(tmp_path: Path) -> None:
    code, report = doctor(RUNNER_CACHE=str(tmp_path / "cache"))
    assert (code, report["ok"]) == (0, True)
    assert set(report) == {
        "ok", "python", "packages", "device", "kernels", "tokenizer", "training_step", "cache_folder",
    }  # fmt: skip
    assert f"torch {torch.__version__}" in report["packages"]["detail"]
    for operation in ("wkv4", "wkv56", "wkv7"):
        assert re.search(f"{operation}: (native|chunked) is used", report["kernels"]["detail"])
    assert str(tmp_path) in report["cache_folder"]["detail"]


def test_what_is_broken_is_named_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, report = doctor(RUNNER_CACHE=str(tmp_path / "file" / "cache"))
    assert (code, report["ok"]) == (1, False)
    assert [name for name in report if name != "ok" and not report[name]["ok"]] == ["cache_folder"]
    assert str(tmp_path) in report["cache_folder"]["detail"]


def test_readable_lines_without_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "doctor"], capture_output=True, text=True, timeout=120, check=False
    )
    assert all(line.startswith(("ok  ", "FAIL")) for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 7

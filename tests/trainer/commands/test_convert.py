from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.contract.events import EventFramer
from trainer.data.binidx import BinidxReader

ROOT = Path(__file__).parents[3]


def _command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "trainer", "convert", *map(str, args)]


def _run(*args: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(_command(*args), capture_output=True, cwd=ROOT, timeout=120)


def test_one_bad_line_of_three(tmp_path: Path) -> None:
    data = tmp_path / "我的 '数据' $(x).jsonl"
    data.write_text('{"text": "one"}\n{"text": \n{"text": "two"}\n', encoding="utf-8")
    prefix = tmp_path / "out dir" / "d"
    done = _run("--data", data, "--out", prefix, "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout.splitlines()[-1])
    reader = BinidxReader(prefix)
    assert result["documents"] == reader.documents == 2
    assert result["tokens"] == reader.tokens
    assert (result["skipped"], result["prefix"], result["already_converted"]) == (1, str(prefix), False)
    assert result["problems"][0]["code"] == "data_line_skipped"
    assert result["problems"][0]["args"]["line"] == 2
    assert result["seconds"] >= 0
    assert "2 documents" in done.stderr.decode()
    assert "1 left out" in done.stderr.decode()
    events = [e for e in EventFramer().feed(done.stdout) if not isinstance(e, str)]
    assert [e.t for e in events if e.t == "warning"] == ["warning"]
    assert events[-1].t == "progress"
    assert events[-1]["done"] == events[-1]["total"] == data.stat().st_size


def test_data_that_is_already_converted(tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "User"}\n', encoding="utf-8")
    assert _run("--data", data, "--out", tmp_path / "d").returncode == 0
    done = _run("--data", tmp_path / "d.idx", "--out", tmp_path / "other", "--json")
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["already_converted"], result["prefix"]) == (True, str(tmp_path / "d"))
    assert (result["documents"], result["tokens"], result["max_token"]) == (1, 2, 24281)
    assert "already converted" in done.stderr.decode()
    assert not (tmp_path / "other.idx").exists()


@pytest.mark.parametrize(
    ("content", "code"), [("", "data_empty"), ("{\n", "data_no_documents"), (None, "data_not_found")]
)
def test_unusable_data_is_bad_input(tmp_path: Path, content: str | None, code: str) -> None:
    data = tmp_path / "d.jsonl"
    if content is not None:
        data.write_text(content, encoding="utf-8")
    done = _run("--data", data, "--out", tmp_path / "d", "--json")
    assert done.returncode == 2
    assert f"error[{code}]" in done.stderr.decode()
    assert not (tmp_path / "d.bin").exists()


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "some words in a line, and some more"}\n' * 1_000_000, encoding="utf-8")
    command = _command("--data", data, "--out", tmp_path / "out" / "d")
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        deadline_s = time.monotonic() + 60
        while not list(tmp_path.glob("out/.d.bin*")) and process.poll() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 3
    assert list((tmp_path / "out").iterdir()) == []

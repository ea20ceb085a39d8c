from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.contract.events import EventFramer

ROOT = Path(__file__).parents[3]


def _report(*args: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "trainer", "data", "report", *map(str, args)]
    return subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "对话 data.csv"
    rows = "".join(f"question {i},answer {i}\n" for i in range(40))
    path.write_text("Frage,Antwort\n" + rows + "one,two,three\n", encoding="utf-8")
    return path


def test_a_table_with_chosen_columns(tmp_path: Path, data: Path) -> None:
    flags = ["--cache", tmp_path / "c", "--data-columns=prompt=Frage,completion=Antwort", "--ctx-len=64"]
    flags += ["--epoch-steps=0", "--epoch-count=3", "--micro-bsz=2", "--accumulate-grad-batches=2"]
    done = _report(data, *flags, "--loss-mask=assistant", "--json")
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["formats"], result["shapes"]) == (["table"], {"prompt_completion": 40})
    assert (result["documents"], result["skipped"], result["fits_share"]) == (40, 1, 1.0)
    assert result["problems"][0]["args"]["line"] == 42
    plan = result["plan"]
    # A document of about a dozen tokens takes 16 of a row's 64: four to a row, two rows to a batch.
    assert (plan["rows"], plan["steps_per_epoch"], plan["total_steps"], plan["passes"]) == (10, 3, 9, 3.0)
    sample = result["samples"][0]
    said = "".join(t for t, counts in zip(sample["texts"], sample["counts"], strict=True) if counts)
    assert said == " answer 0"
    events = [e for e in EventFramer().feed(done.stdout) if not isinstance(e, str)]
    assert events[-1].t == "progress"
    # Asked again, nothing is converted again, and a person gets lines.
    again = _report(data, *flags)
    assert b'"progress"' not in again.stdout
    assert "« answer| 0|∎»" in again.stdout.decode()


def test_the_plan_counts_what_is_mixed_in(tmp_path: Path) -> None:
    for name, n in (("a", 20), ("b", 3)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f'{{"text": "line {i}"}}\n' for i in range(n)))
    flags = ["--no-packing", "--epoch-steps=0", "--epoch-count=2", "--accumulate-grad-batches=5"]
    done = _report(
        tmp_path / "a.jsonl", "--cache", tmp_path / "c", *flags, f"--mix-data={tmp_path / 'b.jsonl'}=0.25",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    plan = json.loads(done.stdout.splitlines()[-1])["plan"]
    assert (plan["rows"], plan["mixed_rows"], plan["total_steps"], plan["passes"]) == (25, 5, 10, 2.0)


def test_without_columns_it_says_which_there_are(tmp_path: Path, data: Path) -> None:
    done = _report(data, "--cache", tmp_path / "c", "--json")
    assert done.returncode == 2
    assert "error[data_columns]" in done.stderr.decode()
    assert "Frage, Antwort" in done.stderr.decode()


def test_nothing_to_learn_is_a_problem_and_no_end(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('[{"messages": [{"role": "user", "content": "q"}]}]')
    done = _report(path, "--cache", tmp_path / "c", "--loss-mask=assistant", "--json")
    result = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, result["plan"]) == (0, None)
    assert [p["code"] for p in result["problems"]] == ["data_no_target"]

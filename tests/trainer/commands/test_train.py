"""`train` and `eval` as a person or a program starts them: processes, exit codes, kills, full disks."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.contract.events import Event, EventFramer, read_events
from trainer.contract.run_folder import RunFolder

FAST = ("--ctx-len", "64", "--epoch-steps", "0", "--micro-bsz", "2", "--accumulate-grad-batches", "2",
        "--lora-r", "4", "--lora-alpha", "8", "--precision", "fp32", "--no-grad-cp",
        "--no-drift")  # fmt: skip


@pytest.fixture
def base(make_checkpoint: Callable[..., object], tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "base.pth", n_layer=2, n_embd=32, vocab=65536, head_size=16, seed=3)
    return tmp_path / "base.pth"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = [f"User: number {i}\n\nAssistant: {i} and {i * i % 97} and {i * 7 % 13}" for i in range(24)]
    path.write_text("\n".join(json.dumps({"text": row}) for row in rows))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "trainer", *map(str, arguments)]


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments), capture_output=True, timeout=120, check=False, **options)  # type: ignore[call-overload]


def losses(folder: RunFolder) -> dict[int, float]:
    return {e["step"]: e["loss"] for e in read_events(folder.events)[0] if e.t == "step"}


def test_the_feed_is_the_file_and_the_result_comes_last(base: Path, data: Path, tmp_path: Path) -> None:
    done = run("train", "--base-model", base, "--data", data, "--run-dir", tmp_path / "run", "--json",
               "--epoch-count", 1, *FAST)  # fmt: skip
    assert done.returncode == 0
    *feed, result = done.stdout.splitlines(keepends=True)
    framer = EventFramer()
    parsed = [item for line in feed for item in framer.feed(line)]
    assert parsed == read_events(tmp_path / "run" / "events.jsonl")[0]
    assert parsed[-1].t == "bye"
    assert json.loads(result)["status"] == "completed"


def test_all_bad_parameters_at_once(base: Path, data: Path, tmp_path: Path) -> None:
    bad = ("--lr-init=nan", "--ctx-len=3", "--precision=int3", "--epoch-count=two", "--lora-parts=att,nose")
    done = run("train", "--base-model", base, "--data", data, "--run-dir", tmp_path / "run", *bad)
    assert done.returncode == 2
    codes = [line.split("]")[0] for line in done.stderr.decode().splitlines() if line.startswith("error[")]
    assert sorted(codes) == sorted(
        [
            "error[param_not_finite",
            "error[param_below",
            "error[param_choice",
            "error[param_type",
            "error[param_choice",
        ]
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--base-model", "{missing}", "--data", "{data}"), "model_not_found"),
        (("--base-model", "{data}", "--data", "{data}"), "model_not_rwkv"),
        (("--base-model", "{base}", "--data", "{missing}"), "data_not_found"),
        (("--base-model", "{base}", "--data", "{empty}"), "data_empty"),
        (("--base-model", "{base}", "--data", "{data}", "--device", "cuda"), "device_unavailable"),
        (("--base-model", "{base}", "--data", "{data}", "--lora-load", "{base}"), "adapter_not_adapter"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_folder(
    arguments: tuple[str, ...], code: str, base: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jsonl").touch()
    names = {
        "missing": tmp_path / "no such $(file)",
        "data": data,
        "base": base,
        "empty": tmp_path / "empty.jsonl",
    }
    done = run("train", "--run-dir", tmp_path / "run", *(a.format(**names) for a in arguments))
    assert done.returncode == 2, done.stderr.decode()
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"error[{code}]: ")
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_taken_once(base: Path, data: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    flags = ("train", "--base-model", base, "--data", data, "--run-dir", folder.path, *FAST)
    assert run(*flags, "--epoch-count", 1).returncode == 0
    again = run(*flags)
    assert (again.returncode, b"error[run_exists]" in again.stderr) == (2, True)
    with folder.lock():
        busy = run("train", "--run-dir", folder.path, "--resume")
    assert (busy.returncode, b"error[run_in_use]" in busy.stderr) == (1, True)


@pytest.fixture
def undisturbed(base: Path, data: Path, tmp_path: Path) -> tuple[tuple[object, ...], dict[int, float]]:
    flags = ("--base-model", base, "--data", data, "--epoch-count", 12, "--lora-dropout", 0.1, *FAST)
    assert run("train", "--run-dir", tmp_path / "straight", *flags).returncode == 0
    return flags, losses(RunFolder(tmp_path / "straight"))


@pytest.mark.timeout(240)
def test_killed_in_the_middle_it_resumes_to_the_same_losses(
    undisturbed: tuple[tuple[object, ...], dict[int, float]], tmp_path: Path
) -> None:
    flags, expected = undisturbed
    folder = RunFolder(tmp_path / "killed")
    start: tuple[object, ...] = ("train", "--run-dir", folder.path, *flags)
    for steps in (4, 9, 14):
        with subprocess.Popen(
            command(*start), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            deadline = time.monotonic() + 60
            while (
                not folder.events.exists() or max(losses(folder), default=0) < steps
            ) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.kill()
        assert folder.status() in ("interrupted", "completed")
        start = ("train", "--run-dir", folder.path, "--resume")
    done = run(*start)
    assert done.returncode == 0, done.stderr.decode()
    assert losses(folder) == expected


def test_sigterm_saves_and_stops(base: Path, data: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    start = command(
        "train", "--run-dir", folder.path, "--base-model", base, "--data", data, "--epoch-count", 400, *FAST
    )
    with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not folder.events.exists() or not losses(folder):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 3
    assert folder.status() == "stopped"
    assert folder.checkpoints()[-1].meta.step == max(losses(folder))


def test_a_stopped_run_that_is_resumed_and_killed_was_interrupted(
    base: Path, data: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    flags = ("--base-model", base, "--data", data, "--epoch-count", 400, *FAST)
    for more, number, status in ((flags, signal.SIGTERM, "stopped"), (("--resume",), 9, "interrupted")):
        seen = len(losses(folder)) if folder.events.exists() else 0
        start = command("train", "--run-dir", folder.path, *more)
        with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and (not folder.events.exists() or len(losses(folder)) <= seen):
                time.sleep(0.02)
            process.send_signal(number)
        assert folder.status() == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_before_the_first_step_it_says_so(
    number: int, base: Path, data: Path, tmp_path: Path
) -> None:
    start = command("train", "--run-dir", tmp_path / "run", "--base-model", base, "--data", data, *FAST)
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        events = [item for line in (first, *process.stdout) for item in EventFramer().feed(line)]
    assert process.returncode == 3
    assert isinstance(events[-1], Event)
    assert (events[-1].t, events[-1]["status"]) == ("bye", "stopped")


def test_a_run_resumes_from_another_folder(base: Path, data: Path, tmp_path: Path) -> None:
    vocab = Path(importlib.util.find_spec("rwkv").submodule_search_locations[0], "rwkv_vocab_v20230424.txt")  # type: ignore[union-attr,index]
    shutil.copy(vocab, tmp_path / "vocab.txt")
    here = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}}
    done = run("train", "--base-model", base.name, "--data", data.name, "--vocab", "vocab.txt", "--run-dir",
               "run", "--epoch-count", 1, *FAST, **here)  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert run("train", "--run-dir", tmp_path / "run", "--resume").returncode == 0


def test_without_torch_it_says_what_to_install(base: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "torch.py").write_text('raise ModuleNotFoundError("no torch", name="torch")')
    root = Path(__file__).resolve().parents[3]
    bare = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path / "none", root)))}
    for arguments in (
        ("train", "--base-model", base, "--data", data, "--run-dir", tmp_path / "run", "--json"),
        ("eval", "--model", base, "--data", data),
        ("merge", "--base", base, "--adapter", base, "--out", tmp_path / "out.pth"),
    ):
        done = run(*arguments, env=bare)
        assert done.returncode == 1
        assert [line[:20] for line in done.stderr.decode().splitlines()] == ["error[torch_missing]"]
    assert read_events(tmp_path / "run" / "events.jsonl")[0][-1].t == "bye"


def test_a_reader_that_goes_away_does_not_end_the_run(base: Path, data: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    start = command(
        "train", "--run-dir", folder.path, "--base-model", base, "--data", data, "--epoch-count", 6, *FAST
    )
    with subprocess.Popen(
        start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        assert process.wait(60) == 0
    assert folder.status() == "completed"


def test_a_full_disk_ends_the_run_and_keeps_what_was_saved(base: Path, data: Path, small_disk: Path) -> None:
    folder = RunFolder(small_disk / "run")
    done = run("train", "--run-dir", folder.path, "--base-model", base, "--data", data, "--epoch-count", 40,
               "--keep-last", 40, *FAST)  # fmt: skip
    assert done.returncode == 1
    assert b"error[disk_full]" in done.stderr
    saved = folder.checkpoints()
    assert saved
    assert all(c.adapter.stat().st_size == c.meta.bytes for c in saved)
    assert not list(folder.ckpt.glob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    on_disk = {c.meta.step for c in saved}
    assert run("train", "--run-dir", folder.path, "--resume").returncode == 0
    assert on_disk <= {c.meta.step for c in folder.checkpoints()}
    told = read_events(folder.events)[0]
    assert [e["resumed_from"] for e in told if e.t == "hello"] == [None, max(on_disk)]
    assert sorted({e["step"] for e in told if e.t == "step"}) == list(range(1, told[-1]["step"] + 1))


@pytest.mark.timeout(240)
def test_two_processes_equal_one_with_twice_the_accumulation(base: Path, data: Path, tmp_path: Path) -> None:
    flags = ("--base-model", base, "--data", data, "--epoch-count", 2, "--ctx-len", 64, "--epoch-steps", 0,
             "--micro-bsz", 1, "--lora-r", 4, "--lora-alpha", 8, "--lora-dropout", 0, "--precision", "fp32",
             "--no-grad-cp")  # fmt: skip
    one = run("train", "--run-dir", tmp_path / "one", *flags, "--accumulate-grad-batches", 4)
    two = run("train", "--run-dir", tmp_path / "two", *flags, "--accumulate-grad-batches", 2, "--devices", 2)
    assert (one.returncode, two.returncode) == (0, 0), two.stderr.decode()[-2000:]
    a, b = losses(RunFolder(tmp_path / "one")), losses(RunFolder(tmp_path / "two"))
    assert a.keys() == b.keys()
    assert b == pytest.approx(a, abs=1e-5)


def test_eval_tells_the_mean_loss(base: Path, data: Path) -> None:
    done = run("eval", "--model", base, "--data", data, "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["documents"] == 24
    assert 5 < result["loss"] < 20
    assert result["tokens"] > 24 * 10


def test_eval_renders_records_as_training_does(base: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = "".join(f"what {i},<think>hm</think>answer {i}\n" for i in range(8))
    table.write_text("Question,Reply\n" + rows)

    def tokens(*options: str) -> int:
        done = run("eval", "--model", base, "--data", table, "--json", *options)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout.splitlines()[-1])["tokens"]

    columns = "--data-columns=prompt=Question,completion=Reply"
    assert tokens(columns, "--think=drop") < tokens(columns)
    refused = run("eval", "--model", base, "--data", table, columns, "--think=twice")
    assert (refused.returncode, b"error[param_choice]" in refused.stderr) == (2, True)
    unknown = run("eval", "--model", base, "--data", table, "--data-columns=nose=Question")
    assert (unknown.returncode, b"error[data_columns_unknown]" in unknown.stderr) == (2, True)


def test_help_names_every_parameter() -> None:
    done = run("train", "--help", env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0
    assert b"--accumulate-grad-batches" in done.stdout
    assert b"--no-grad-cp" in done.stdout

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.contract.events import Event, EventFramer


@pytest.fixture
def pair(tmp_path: Path, make_checkpoint: Any, make_adapter: Any) -> tuple[Path, Path]:
    make_checkpoint(tmp_path / "base.pth")
    make_adapter(tmp_path / "adapter.pth", tmp_path / "base.pth")
    return tmp_path / "base.pth", tmp_path / "adapter.pth"


def command(base: Path, adapter: Path, output: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "trainer", "merge", "--base", str(base), "--adapter", str(adapter),
        "--out", str(output), *more,
    ]  # fmt: skip


def test_events_come_first_and_the_result_last(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    done = subprocess.run(command(*pair, tmp_path / "out.pth", "--json"), capture_output=True, timeout=120)
    assert done.returncode == 0
    *feed, last = done.stdout.splitlines(keepends=True)
    result = json.loads(last)
    assert result["output"] == str(tmp_path / "out.pth")
    assert (result["alpha"], result["lora_matrices"], result["changed"]) == (8.0, 12, 14)
    assert 0 < result["lost_share"] < 0.1
    assert result["logits"]["package"] < 1e-4
    events = [event for event in EventFramer().feed(b"".join(feed)) if isinstance(event, Event)]
    assert [event["name"] for event in events if event.t == "phase"] == ["merging", "verifying"]
    for phase in ("merging", "verifying"):
        last_step = [event for event in events if event.t == "progress" and event["what"] == phase][-1]
        assert last_step["done"] == last_step["total"] > 0
    assert b"lost to rounding" in done.stderr
    assert len(torch.load(tmp_path / "out.pth", weights_only=True)) == 72


def test_bad_input_is_one_line_with_its_code(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    for arguments, code in (
        ((pair[0], pair[0], tmp_path / "out.pth"), "adapter_not_adapter"),
        ((*pair, pair[0]), "merge_output_exists"),
    ):
        done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error[{code}]: ")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("alpha", ["nan", "inf", "0", "-1", "x"])
def test_alpha_must_be_a_positive_number(tmp_path: Path, alpha: str) -> None:
    done = subprocess.run(command(tmp_path, tmp_path, tmp_path, "--alpha", alpha), capture_output=True)
    assert done.returncode == 2
    assert b"--alpha" in done.stderr


def test_a_signal_stops_it_and_leaves_nothing(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any
) -> None:
    make_checkpoint(tmp_path / "base.pth", n_layer=4, n_embd=1024, head_size=64, vocab=8000)
    make_adapter(tmp_path / "adapter.pth", tmp_path / "base.pth")
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(tmp_path / "base.pth", tmp_path / "adapter.pth", out / "out.pth"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    while b'"progress"' not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert list(out.iterdir()) == []


def test_a_folder_that_takes_no_files_is_named(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    folder = tmp_path / "read only"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        done = subprocess.run(command(*pair, folder / "out.pth"), capture_output=True, text=True, timeout=60)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert done.returncode == 1
    assert [line[:19] for line in done.stderr.splitlines()] == ["error[not_writable]"]


def test_several_adapters_each_with_its_strength(
    tmp_path: Path, pair: tuple[Path, Path], make_adapter: Any
) -> None:
    make_adapter(tmp_path / "slim '2'.pth", pair[0], r=2, with_meta=False, seed=7)
    done = subprocess.run(
        command(
            *pair, tmp_path / "out.safetensors", "--adapter", str(tmp_path / "slim '2'.pth"), "--strength",
            "0.5", "--strength", "1.5", "--alpha", "4", "--layers", "0,1-1", "--dtype", "fp32", "--no-verify",
            "--json",
        ),
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert [adapter["code"] for adapter in result["adapters"]] == ["adapter_is_ours", "adapter_is_slim"]
    assert {warning["code"] for warning in result["warnings"]} == {"adapter_alpha_differs"}
    assert b"adapter_is_slim" in done.stdout
    assert result["dtype"] == "fp32"


@pytest.mark.parametrize(
    "more",
    [
        ("--strength", "1.6"), ("--strength", "-0.1"), ("--strength", "nan"), ("--layers", "3-1"),
        ("--layers", "a"), ("--layers", ""), ("--strength", "1", "--strength", "1"),
        ("--alpha", "1", "--alpha", "2"),
    ],
)  # fmt: skip
def test_flags_are_checked(tmp_path: Path, more: tuple[str, ...]) -> None:
    done = subprocess.run(command(tmp_path, tmp_path, tmp_path / "out.pth", *more), capture_output=True)
    assert done.returncode == 2
    assert more[0].encode() in done.stderr


def test_the_next_merge_cleans_up_after_a_killed_one(
    tmp_path: Path, make_checkpoint: Any, make_adapter: Any
) -> None:
    make_checkpoint(tmp_path / "base.pth", n_layer=4, n_embd=1024, head_size=64, vocab=8000)
    make_adapter(tmp_path / "adapter.pth", tmp_path / "base.pth", full=())
    files = (tmp_path / "base.pth", tmp_path / "adapter.pth")
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(*files, out / "out.pth"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    while b'"progress"' not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    assert [path.suffix for path in sorted(out.iterdir())] == [".lock", ".pth"]
    done = subprocess.run(command(*files, out / "out.pth", "--no-verify"), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.iterdir()] == ["out.pth"]

"""Memory that really runs out: of an address space, and in a memory cgroup, whose OOM killer strikes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainer.contract.events import read_events
from trainer.contract.run_folder import RunFolder

LIMIT_S = 240
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
PEAK = """
import re, trainer.training.run, torch
torch.randn(64, 64).mm(torch.randn(64, 64))
print(re.search(r"VmPeak:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
ROOM_BYTES = 600 << 20


@pytest.fixture
def flags(tmp_path: Path) -> tuple[str, ...]:
    rows = (f"User: number {i}\n\nAssistant: {i} and {i * i % 97} and {i * 7 % 13}" for i in range(24))
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": row}) for row in rows))
    return (
        f"--data={data}", "--ctx-len=64", "--epoch-steps=0", "--micro-bsz=2", "--accumulate-grad-batches=2",
        "--lora-r=4", "--precision=fp32", "--no-grad-cp", "--no-drift", "--keep-last=100000",
    )  # fmt: skip


def command(folder: RunFolder, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "trainer", "train", f"--run-dir={folder.path}", *arguments]


def losses(folder: RunFolder) -> dict[int, float]:
    return {e["step"]: e["loss"] for e in read_events(folder.events)[0] if e.t == "step"}


@pytest.fixture
def large(make_checkpoint: Callable[..., object], tmp_path: Path) -> Path:
    """100 million parameters: 400 MB as they are computed with."""
    make_checkpoint(tmp_path / "large.pth", n_layer=1, n_embd=768, vocab=65536, head_size=64, seed=3)
    return tmp_path / "large.pth"


@pytest.mark.timeout(LIMIT_S)
def test_an_address_space_that_is_full_is_told_by_its_code(
    flags: tuple[str, ...], large: Path, tmp_path: Path
) -> None:
    peak_kb = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, check=True).stdout
    limit = int(peak_kb) * 1024 + (200 << 20)  # the base alone has 400 MB

    def with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    folder = RunFolder(tmp_path / "run")
    done = subprocess.run(
        command(folder, f"--base-model={large}", *flags), capture_output=True, check=False,
        preexec_fn=with_little_room,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr.decode()[-2000:]
    assert b"error[oom_ram]" in done.stderr
    assert read_events(folder.events)[0][-1]["reason"] == "oom_ram"


@pytest.fixture
def memory_group() -> Iterator[Callable[[], None]]:
    """Puts the process that calls it into a cgroup with `ROOM_BYTES` of memory."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    group = Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/memory", f"runner-test-{os.getpid()}")
    limit = group / ("memory.max" if unified else "memory.limit_in_bytes")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a memory cgroup needs root: {error}")
    if not limit.exists():
        group.rmdir()
        pytest.skip("this system gives no memory controller to a new cgroup")
    limit.write_text(str(ROOM_BYTES))
    yield lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None
    deadline = time.monotonic() + 60
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    group.rmdir()


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_run_that_the_kernel_kills_for_memory_lost_nothing_that_was_saved(
    flags: tuple[str, ...],
    large: Path,
    memory_group: Callable[[], None],
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path / "run")
    _train_a_step(folder, f"--base-model={large}", *flags, "--epoch-count=100000")
    saved = [checkpoint.meta.step for checkpoint in folder.checkpoints()]
    # Loading the base needs more than the group has.
    killed = subprocess.run(command(folder, "--resume"), preexec_fn=memory_group, check=False, **QUIET)  # type: ignore[call-overload]
    assert killed.returncode == -9
    assert folder.status() == "interrupted"
    assert [checkpoint.meta.step for checkpoint in folder.checkpoints()] == saved
    _train_a_step(folder, "--resume")
    hello = [e["resumed_from"] for e in read_events(folder.events)[0] if e.t == "hello"]
    assert hello == [None, saved[-1], saved[-1]]


def _train_a_step(folder: RunFolder, *arguments: str) -> None:
    """Start, and stop with a save after the first step."""
    seen = len(losses(folder)) if folder.events.exists() else 0
    with subprocess.Popen(command(folder, *arguments), **QUIET) as process:  # type: ignore[call-overload]
        deadline = time.monotonic() + LIMIT_S
        while not folder.events.exists() or len(losses(folder)) <= seen:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        assert process.wait(LIMIT_S) == 3

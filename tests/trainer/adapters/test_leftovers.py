from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.adapters.leftovers import remove_leftovers, unfinished

CHILD = """
import sys, time
from pathlib import Path
from trainer.adapters.leftovers import unfinished
with unfinished(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    print(part, flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def start(output: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".GGUF"])
def test_a_killed_merge_is_cleaned_up_and_a_living_one_is_not(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"名 $(x){suffix}"
    killed, left = start(output)
    living, kept = start(output)
    assert left.suffix == suffix.lower()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    other = [".merging-notes.pth", ".merging-0123456789abcdef.pth", "merging-0123456789ab.pth", ".hidden"]
    for name in other:
        (tmp_path / name).write_text("mine")
    try:
        remove_leftovers(tmp_path)
        assert not left.exists()
        assert kept.exists()
        assert names(tmp_path) == {*other, kept.name, f"{kept.stem}.lock"}
    finally:
        living.kill()
        living.communicate()


def test_left_overs_without_a_lock_go_too(tmp_path: Path) -> None:
    (tmp_path / ".merging-0123456789ab.pth").write_text("of an earlier version")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == set()


def test_nothing_stays_whatever_ends_it(tmp_path: Path) -> None:
    with contextlib.suppress(KeyError), unfinished(tmp_path / "out.pth") as part:
        part.write_text("half")
        raise KeyError
    assert names(tmp_path) == set()

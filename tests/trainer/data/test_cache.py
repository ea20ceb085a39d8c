from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.contract.errors import InputError, Problem
from trainer.data import cache
from trainer.data.binidx import BinidxReader
from trainer.data.cache import HashIndex, ensure_converted
from trainer.data.sources import open_source


def _stamp(prefix: Path) -> int:
    return (prefix.parent / "data.idx").stat().st_mtime_ns


def test_unedited_data_is_converted_once(tmp_path: Path) -> None:
    data, root = tmp_path / "d.jsonl", tmp_path / "cache"
    data.write_text('{"text": "one"}\n{bad\n', encoding="utf-8")
    problems: list[Problem] = []
    first = ensure_converted(data, None, 65536, root, None, problems.append)
    stamp = _stamp(first)
    os.utime(data)  # touched, but with the same content
    assert ensure_converted(data, None, 65536, root, None, problems.append) == first
    assert _stamp(first) == stamp
    # What was left out is told again.
    assert [p.args["line"] for p in problems] == [2, 2]
    data.write_text('{"text": "two"}\n', encoding="utf-8")
    second = ensure_converted(data, None, 65536, root)
    assert second != first
    assert BinidxReader(second).documents == 1
    # Back to the first text: its conversion is still there.
    data.write_text('{"text": "one"}\n{bad\n', encoding="utf-8")
    assert ensure_converted(data, None, 65536, root) == first
    assert _stamp(first) == stamp


def test_an_edit_that_keeps_the_size_is_seen(tmp_path: Path) -> None:
    data, root = tmp_path / "d.jsonl", tmp_path / "cache"
    prefixes = set()
    for word in ("one", "two", "six"):
        data.write_text(f'{{"text": "{word}"}}\n', encoding="utf-8")
        os.utime(data, ns=(10**18, 10**18 + len(prefixes) * 1000))
        prefixes.add(ensure_converted(data, None, None, root))
    assert len(prefixes) == 3


def test_a_damaged_conversion_is_made_again(tmp_path: Path) -> None:
    data, root = tmp_path / "d.jsonl", tmp_path / "cache"
    data.write_text('{"text": "one"}\n', encoding="utf-8")
    prefix = ensure_converted(data, None, None, root)
    (prefix.parent / "data.bin").write_bytes(b"")
    (prefix.parent / ".data.bin.x.tmp").write_bytes(b"left by a killed process")
    assert ensure_converted(data, None, None, root) == prefix
    assert BinidxReader(prefix).documents == 1
    names = sorted(p.name for p in prefix.parent.iterdir())
    assert names == ["data.bin", "data.idx", "data.json", "data.mask"]


def test_known_hashes_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "one"}\n', encoding="utf-8")
    os.utime(data, ns=(10**18, 10**18))
    (file,) = open_source(data).files
    index = HashIndex(tmp_path / "index.json")
    digest = index.sha256(file)
    index.save()
    monkeypatch.setattr(cache, "file_sha256", lambda path: "read again")
    assert HashIndex(tmp_path / "index.json").sha256(file) == digest
    os.utime(data, ns=(10**18, 10**18 + 1))
    (file,) = open_source(data).files
    assert HashIndex(tmp_path / "index.json").sha256(file) == "read again"


def test_a_fresh_file_is_not_remembered(tmp_path: Path) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "one"}\n', encoding="utf-8")
    index = HashIndex(tmp_path / "index.json")
    index.sha256(open_source(data).files[0])
    index.save()
    # It may be changed again within the resolution of its time stamp.
    assert not (tmp_path / "index.json").exists()


def test_a_binidx_is_its_own_conversion(tmp_path: Path) -> None:
    data, root = tmp_path / "d.jsonl", tmp_path / "cache"
    data.write_text('{"text": "User"}\n', encoding="utf-8")
    prefix = ensure_converted(data, None, None, root)
    assert ensure_converted(prefix, None, 65536, tmp_path / "other") == prefix
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError) as caught:
        ensure_converted(prefix, None, 1000, root)
    assert caught.value.code == "token_beyond_vocab"
    assert caught.value.problem.args["token"] == 24281


RACE = """
import sys
from pathlib import Path
from trainer.data.cache import ensure_converted
data, root = map(Path, sys.argv[1:])
print(ensure_converted(data, None, None, root, lambda done, total: print("working")))
"""


def test_two_processes_convert_once(tmp_path: Path) -> None:
    data, root = tmp_path / "d.jsonl", tmp_path / "cache"
    data.write_text('{"text": "some words in a line"}\n' * 20_000, encoding="utf-8")
    command = [sys.executable, "-c", RACE, str(data), str(root)]
    folder = Path(__file__).parents[3]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1]
    assert sorted("working" in words for words in outputs) == [False, True]
    assert BinidxReader(Path(outputs[0][-1])).documents == 20_000

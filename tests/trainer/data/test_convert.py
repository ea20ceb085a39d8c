from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.contract.errors import AppError, InputError, Problem
from trainer.data.binidx import BinidxReader
from trainer.data.convert import ConversionStoppedError, convert
from trainer.data.tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(None)


def test_jsonl_to_tokens_and_back(tmp_path: Path, tokenizer) -> None:
    texts = ["User: 你好\n\nAssistant: 早", "a \x00 😀", "prose\r\n"]
    data = tmp_path / "d.jsonl"
    lines = [json.dumps({"text": t}) for t in texts]
    data.write_text("\n".join([lines[0], "{broken", *lines[1:]]), encoding="utf-8")
    problems: list[Problem] = []
    meta = convert(data, tmp_path / "out" / "d", tokenizer, on_problem=problems.append)
    reader = BinidxReader(tmp_path / "out" / "d")
    assert [tokenizer.decode(reader[i]) for i in range(3)] == texts
    assert all(reader[i][-1] == 0 for i in range(3))
    assert [reader[i][:-1].tolist() for i in range(3)] == [tokenizer.encode(t) for t in texts]
    assert reader.meta == meta
    assert (meta.documents, meta.skipped, len(problems), meta.tokens) == (3, 1, 1, reader.tokens)
    assert meta.problems[0].args["line"] == 2
    assert meta.max_token == max(int(reader[i].max()) for i in range(3))
    mask = reader.mask(0)
    assert mask is not None
    # " 早" and the end of the document count, nothing before.
    assert tokenizer.decode(reader[0][mask == 1]) == " 早"
    assert mask[-1] == 1
    assert meta.assistant_tokens == sum(int(m.sum()) for i in range(3) if (m := reader.mask(i)) is not None)


@pytest.mark.parametrize("content", ["", "{\n", '{"text": ""}\n'])
def test_data_without_a_document_writes_nothing(tmp_path: Path, tokenizer, content: str) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text(content, encoding="utf-8")
    with pytest.raises(InputError):
        convert(data, tmp_path / "out" / "d", tokenizer)
    assert list(tmp_path.iterdir()) == [data]


def test_stopping_leaves_the_earlier_conversion(tmp_path: Path, tokenizer) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "a"}\n' * 50, encoding="utf-8")
    out = tmp_path / "out"
    convert(data, out / "d", tokenizer)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    data.write_text('{"text": "b"}\n' * 50, encoding="utf-8")
    asked = iter(range(1000))
    with pytest.raises(ConversionStoppedError):
        convert(data, out / "d", tokenizer, should_stop=lambda: next(asked) > 20)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_progress_ends_at_the_whole(tmp_path: Path, tokenizer) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "b.txt").write_bytes("你好".encode("utf-16"))
    seen: list[tuple[int, int]] = []
    convert(tmp_path, tmp_path / "out" / "d", tokenizer, on_progress=lambda *done: seen.append(done))
    assert seen[-1] == (11, 11)
    assert seen == sorted(seen)


def test_data_edited_meanwhile_is_refused(tmp_path: Path, tokenizer) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "a"}\n{"text": 1}\n', encoding="utf-8")

    def edit(problem: Problem) -> None:
        data.write_text("other", encoding="utf-8")

    with pytest.raises(InputError) as caught:
        convert(data, tmp_path / "out" / "d", tokenizer, on_problem=edit)
    assert caught.value.problem.args["reason"] == "changed while it was read"
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_that_cannot_be_written(tmp_path: Path, tokenizer) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(AppError) as caught:
        convert(data, data / "sub" / "d", tokenizer)
    assert caught.value.code == "not_writable"


MEASURE = """
import resource, sys
from pathlib import Path
from trainer.data.convert import convert
from trainer.data.tokenizers import load_tokenizer
meta = convert(Path(sys.argv[1]), Path(sys.argv[2]), load_tokenizer(None))
print(meta.documents, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def _peak_mib(data: Path, prefix: Path) -> tuple[int, int]:
    command = [sys.executable, "-c", MEASURE, str(data), str(prefix)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    documents, peak = done.stdout.split()
    return int(documents), int(peak)


def test_memory_does_not_grow_with_the_lines(tmp_path: Path) -> None:
    line = json.dumps({"text": "User: what is it?\n\nAssistant: It is a line of some length. " * 20}) + "\n"
    peaks = []
    for megabytes in (6, 60):
        data = tmp_path / f"{megabytes}.jsonl"
        with open(data, "w", encoding="utf-8") as file:
            for _ in range(megabytes * 1_000_000 // len(line)):
                file.write(line)
        documents, peak_mib = _peak_mib(data, tmp_path / f"out{megabytes}")
        assert documents == megabytes * 1_000_000 // len(line)
        peaks.append(peak_mib)
    assert peaks[1] - peaks[0] < 15


def test_memory_does_not_grow_with_a_single_text(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (16, 64):
        data = tmp_path / f"{megabytes}.txt"
        with open(data, "w", encoding="utf-8") as file:
            for i in range(megabytes * 5000):
                file.write(
                    f"A line of exactly two hundred bytes, number {i:012d}, {'word ' * 27} end.\n\n"[:200]
                )
        documents, peak_mib = _peak_mib(data, tmp_path / f"out{megabytes}")
        assert documents == 1
        peaks.append(peak_mib)
    assert peaks[1] - peaks[0] < 40

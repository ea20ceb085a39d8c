"""Reading and cutting of the base model's texts; the packages are made here, not fetched."""

from __future__ import annotations

import importlib
import io
import json
import struct
import tarfile
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from pyrwkv_tokenizer import RWKVTokenizer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def demo_corpus(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("demo_corpus")


def r_record(lines: list[str]) -> bytes:
    """A character vector as R's lazy-load database keeps it."""
    xdr = (
        b"X\n"
        + struct.pack(">iiii", 3, 0x040200, 0x030500, 5)
        + b"UTF-8"
        + struct.pack(">ii", 16, len(lines))
    )
    for line in lines:
        xdr += struct.pack(">ii", 0x00040009, len(line.encode())) + line.encode()
    return struct.pack(">I", len(xdr)) + zlib.compress(xdr)


def test_novels_are_read_record_by_record_and_their_lines_joined(
    demo_corpus: ModuleType, tmp_path: Path
) -> None:
    data = tmp_path / "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data"
    data.mkdir(parents=True)
    first = r_record(["CHAPTER I", "", "It is  a truth", "_universally_ acknowledged", ""])
    (data / "Rdata.rdb").write_bytes(first + r_record(["", "Café talk."]))
    assert list(demo_corpus.read_austen(tmp_path)) == [
        "CHAPTER I",
        "It is a truth universally acknowledged",
        "Café talk.",
    ]


def test_tang_poems_lose_their_terminal_colours(demo_corpus: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "fortunes-zh/usr/share/games/fortunes"
    folder.mkdir(parents=True)
    first = "\x1b[32m《送别》\x1b[m\n\x1b[33m作者：王维\x1b[m\n下马饮君酒，问君何所之。"
    raw = f"{first}\n%\n《青溪》\n言入黄花川。\n"
    (folder / "tang300").write_text(raw, encoding="utf-8")
    assert list(demo_corpus.read_tang(tmp_path)) == [
        "《送别》\n作者：王维\n下马饮君酒，问君何所之。",
        "《青溪》\n言入黄花川。",
    ]


def test_poems_with_stage_directions_or_lost_characters_are_left_out(
    demo_corpus: ModuleType, tmp_path: Path
) -> None:
    sets = {
        "lunyu/lunyu.json": [{"chapter": "学而篇", "paragraphs": ["子曰：“学而时习之。”"]}],
        "songci/ci.song.0.json": [
            {"author": "林逋", "rhythmic": "相思令", "paragraphs": ["吴山青。", "越山青。"]},
            {"author": "某", "rhythmic": "残", "paragraphs": ["月□明。"]},
            {"author": "某", "rhythmic": "折", "paragraphs": ["(带云)张千。"]},
        ],
        "quantangshi/poet.tang.0.json": [
            {"author": "李白", "title": "靜夜思", "paragraphs": ["床前看月光。"]}
        ],
    }
    with tarfile.open(tmp_path / "chinese-poetry-2.0.1.tgz", "w:gz") as package:
        for name, entries in sets.items():
            raw = json.dumps(entries, ensure_ascii=False).encode()
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(raw)
            package.addfile(info, io.BytesIO(raw))
    small, large = demo_corpus.read_poetry(tmp_path)
    assert small == ["《学而篇》\n子曰：“学而时习之。”"]
    assert large == ["《相思令》林逋\n吴山青。\n越山青。"]


def test_documents_end_with_a_sentence_and_lose_no_text(demo_corpus: ModuleType) -> None:
    sentences = [f"This is sentence number {number} of a long piece." for number in range(40)]
    documents = list(demo_corpus.group([" ".join(sentences), "Short."], 200, " "))
    assert " ".join(documents) == " ".join([*sentences, "Short."])
    assert all(document.endswith(".") for document in documents)
    assert max(map(len, documents)) <= 250
    assert min(map(len, documents[:-1])) >= 150


def test_taking_stops_at_the_budget_and_skips_repeats_and_the_samples_style(demo_corpus: ModuleType) -> None:
    tokenizer = RWKVTokenizer()
    documents = ["One apple.", "One apple.", "Aye, two apples.", "客官请坐。", "Three pears.", "Four plums."]
    budget = sum(len(tokenizer.encode(document)) + 1 for document in ("One apple.", "Three pears."))
    taken, tokens = demo_corpus.take(documents, budget, tokenizer)
    assert taken == ["One apple.", "Three pears."]
    assert tokens == budget


def test_a_corpus_line_is_one_json_object_with_its_line_breaks_kept(
    demo_corpus: ModuleType, tmp_path: Path
) -> None:
    demo_corpus.write_jsonl(["User: 你好\n\nAssistant: 你好！", "x"], tmp_path / "corpus.jsonl")
    lines = (tmp_path / "corpus.jsonl").read_bytes().decode("utf-8").split("\n")
    assert lines[0] == '{"text": "User: 你好\\n\\nAssistant: 你好！"}'
    assert lines[1:] == ['{"text": "x"}', ""]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]

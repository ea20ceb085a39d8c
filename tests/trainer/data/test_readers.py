from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.contract.errors import InputError, Problem
from trainer.data import record_files
from trainer.data.documents import Document
from trainer.data.encodings import UnknownEncodingError, detect_encoding
from trainer.data.readers import DocumentReader
from trainer.data.sources import open_source, source_sha256


def _read(path: Path) -> tuple[list[str], list[Problem]]:
    problems: list[Problem] = []
    return ["".join(_pieces(d)) for d in DocumentReader(open_source(path), problems.append)], problems


def _pieces(document: Document) -> Iterator[str]:
    if isinstance(document.content, tuple):
        return (segment.text for segment in document.content)
    return document.content


def _refused(path: Path) -> Problem:
    with pytest.raises(InputError) as caught:
        _read(path)
    return caught.value.problem


GOOD = b'{"text": "good"}'
BAD_LINES = [
    (b'{"text": "x"', "not JSON: Expecting ',' delimiter (column 13)"),
    (b'{"text": "x}', "not JSON: Unterminated string starting at (column 10)"),
    (b'"just a string"', "not a JSON object"),
    (b"[1, 2]", "not a JSON object"),
    (b"42", "not a JSON object"),
    (b'{"txt": "x"}', "no known fields (txt)"),
    (b'{"text": 5}', "“text” is not a string"),
    (b'{"text": null}', "“text” is not a string"),
    (b'{"text": ""}', "“text” is empty"),
    (b'{"text": " \\n "}', "“text” is empty"),
    (b'{"text": "\xff"}', "not UTF-8"),
    (b'{"text": "a"}{"text": "b"}', "not JSON: Extra data (column 14)"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_is_named_and_the_rest_is_read(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD + b"\n\n" + line + b"\n" + GOOD)
    texts, problems = _read(path)
    assert texts == ["good", "good"]
    assert [(p.code, p.args) for p in problems] == [
        ("data_line_skipped", {"path": str(path), "line": 3, "reason": reason})
    ]
    assert reason in problems[0].sentence()


def test_deep_nesting_is_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD + b'\n{"text": ' + b"[" * 200_000)
    texts, problems = _read(path)
    assert texts == ["good"]
    assert [p.args["line"] for p in problems] == [2]


def test_marks_line_ends_and_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "a\\r\\nb"}\r\n\r\n  \r\n{"text": "\\ud800 \\u0000", "n": NaN}\r\n'
        + '{"text": "\u2028你好😀"}'.encode()
    )
    assert _read(path) == (["a\r\nb", "\ud800 \x00", "\u2028你好😀"], [])


def test_a_line_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "MAX_RECORD_BYTES", 2 << 20)
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD + b'\n{"text": "' + b"x" * (5 << 20) + b'"}\n' + GOOD + b"\n")
    texts, problems = _read(path)
    assert texts == ["good", "good"]
    assert problems[0].args == {"path": str(path), "line": 2, "reason": "longer than 2 MiB"}


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("e.jsonl", b"", "data_empty"),
        ("e.txt", b"\xef\xbb\xbf \n", "data_empty"),
        ("bad.jsonl", b"{\n{\n", "data_no_documents"),
        ("a.json", b'["x", ["y"]]', "data_no_documents"),
        ("a.json", b'[{"text": "x"', "data_no_documents"),
        ("a.csv", b"who,what\nx,y", "data_columns"),
        ("a.parquet", b"text\nx", "data_format"),
        ("a", b"text", "data_format"),
        ("u16.jsonl", '{"text": "x"}'.encode("utf-16"), "data_encoding"),
        ("gbk.jsonl", '{"text": "中文"}'.encode("gbk"), "data_encoding"),
        ("garbage.txt", bytes(range(256)) * 50, "data_encoding"),
        ("zeros.txt", bytes(1000), "data_encoding"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    problem = _refused(path)
    assert problem.code == code
    assert problem.args["path"] == str(path)


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    assert _refused(tmp_path / "none.jsonl").code == "data_not_found"
    loop = tmp_path / "loop.jsonl"
    loop.symlink_to(loop)
    assert _refused(loop).code == "data_unreadable"
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    assert _refused(pipe).args["reason"] == "not a regular file"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(GOOD)
    path.chmod(0)
    assert _refused(path).code == "data_unreadable"


def test_a_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b" / "c" / "2.txt").write_bytes("\ufeffzwei\r\nneu\rmac".encode())
    (tmp_path / "1.TXT").write_bytes(b"one")
    (tmp_path / ".hidden" / "no.txt").write_bytes(b"no")
    (tmp_path / ".no.txt").write_bytes(b"no")
    (tmp_path / "README.md").write_bytes(b"no")
    (tmp_path / "settings.json").write_bytes(b'{"text": "no"}')
    (tmp_path / "3.md").write_bytes(b"# three")
    (tmp_path / "4.jsonl").write_bytes(b'{"text": "four"}\n{}\n')
    (tmp_path / "5.csv").write_bytes(b"who,what\nx,y")
    (tmp_path / "b" / "empty.txt").write_bytes(b" \n")
    (tmp_path / "b" / "garbage.txt").write_bytes(bytes(range(256)))
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "z.txt").symlink_to(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.txt"))
    texts, problems = _read(tmp_path)
    assert texts == ["one", "# three", "four", "zwei\nneu\nmac"]
    reasons = {Path(p.args["path"]).name: p.args["reason"] for p in problems}
    assert reasons.pop("5.csv").startswith("No column")
    assert reasons.pop("4.jsonl") == "no known fields ()"
    assert reasons == {"empty.txt": "empty", "garbage.txt": "not text", "z.txt": "No such file or directory"}
    assert {p.code for p in problems} == {"data_file_skipped", "data_line_skipped"}


def test_a_folder_without_a_text(tmp_path: Path) -> None:
    assert _refused(tmp_path).code == "data_no_documents"
    (tmp_path / "x.txt").write_bytes(bytes(100))
    assert _refused(tmp_path).code == "data_no_documents"


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_bytes(bytes(100))
    (tmp_path / "a.txt").write_bytes(b"a")
    texts, problems = _read(tmp_path)
    assert texts == ["a"]
    assert problems[0].args["path"].endswith("\ufffd.txt")


CHINESE = (
    "学习一门新的语言需要耐心。每天读一点书，写几句话，慢慢就会有进步。\n我们在图书馆里讨论了这个问题。\n" * 3
)
TAIWAN = (
    "人工智慧是一門研究如何讓機器表現出智慧行為的學科。台灣的科技產業在全球供應鏈中扮演重要的角色。\n" * 3
)
JAPANESE = (
    "図書館で本を読んでいると、窓の外では雨が降りはじめていた。明日はきっと晴れるだろうと思います。\n" * 3
)
FRENCH = "Où êtes-vous allé, déjà? C'était très drôle, à mon avis, et même un peu bête. J'aime l'été.\n" * 5


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", CHINESE), ("utf-8-sig", CHINESE), ("utf-16", CHINESE), ("utf-16-be", "\ufeff" + CHINESE),
        ("utf-32", CHINESE), ("gb18030", CHINESE), ("gbk", CHINESE), ("big5", TAIWAN),
        ("shift_jis", JAPANESE), ("euc_jp", JAPANESE), ("cp1252", FRENCH),
    ],
)  # fmt: skip
def test_encodings_are_recognised(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "d.txt"
    path.write_bytes(text.encode(encoding))
    assert _read(path) == ([text.lstrip("\ufeff")], [])


@pytest.mark.parametrize(
    "content",
    [
        # Every East Asian encoding makes two plausible characters of these bytes.
        b"The price (in the shop around the corner) is what we call " + "价格".encode("gbk") + b" here.\n",
        "Все счастливые семьи похожи друг на друга.\n".encode("koi8-r") * 5,
        CHINESE.encode("utf-8") + b"\xff\xfe broken",
        b"\xff\xfe" + CHINESE.encode("utf-16-le") + b"\x00",
    ],
)
def test_encodings_that_must_be_guessed_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.txt"
    path.write_bytes(content)
    assert _refused(path).code == "data_encoding"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("big5", TAIWAN[:12]), ("big5", "春眠不覺曉，處處聞啼鳥。"), ("gb18030", "春眠不觉晓，处处闻啼鸟。"),
        ("gb18030", "你好"),
    ],
)  # fmt: skip
def test_a_few_characters_are_not_taken_for_another_language(
    tmp_path: Path, encoding: str, text: str
) -> None:
    path = tmp_path / "d.txt"
    path.write_bytes(text.encode(encoding))
    try:
        found = detect_encoding(path)
    except UnknownEncodingError:
        found = "refused"
    assert found in (encoding, "refused")


def test_a_long_text_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.encodings.BLOCK_BYTES", 50)
    text = "".join(f"paragraph {i} 你好\n{'line' * (i % 5)}\n\n" for i in range(40))
    path = tmp_path / "d.txt"
    path.write_text(text, encoding="utf-8")
    (document,) = [list(_pieces(d)) for d in DocumentReader(open_source(path), print)]
    assert "".join(document) == text
    assert len(document) > 10
    assert all(piece.startswith("\n") and not piece.endswith("\n") for piece in document[1:-1])


def test_the_hash_follows_content_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "b.txt").write_bytes(b"two")
    first = source_sha256(open_source(tmp_path))
    assert source_sha256(open_source(tmp_path)) == first
    (tmp_path / "b.txt").rename(tmp_path / "c.txt")
    renamed = source_sha256(open_source(tmp_path))
    (tmp_path / "c.txt").write_bytes(b"twO")
    assert len({first, renamed, source_sha256(open_source(tmp_path))}) == 3
    assert source_sha256(open_source(tmp_path / "a.txt")) == (
        "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    )

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.errors import AppError, InputError
from trainer.data import record_files
from trainer.data.documents import BadRecordError
from trainer.data.record_files import json_objects, parquet_rows, table_rows


def _read(records: Any) -> list[tuple[int, Any]]:
    return [(n, f"! {v}" if isinstance(v, BadRecordError) else v) for n, v in records]


def _objects(path: Path) -> list[tuple[int, Any]]:
    seen: list[int] = []
    found = _read(json_objects(path, seen.append))
    assert sum(seen) >= path.stat().st_size - 4
    return found


TRICKY = [{"text": 'a "}" \\ [{'}, {"text": "你好\n{", "n": [{"x": {}}, []]}, {"text": "😀"}]


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
@pytest.mark.parametrize("block", [4, 7, 1 << 20])
def test_arrays_however_they_are_laid_out(tmp_path: Path, monkeypatch, indent: Any, block: int) -> None:
    monkeypatch.setattr(record_files, "_BLOCK_BYTES", block)
    path = tmp_path / "d.json"
    for ascii_only in (True, False):
        path.write_text(
            "\ufeff" * ascii_only + json.dumps(TRICKY, indent=indent, ensure_ascii=ascii_only), "utf-8"
        )
        found = _objects(path)
        assert [value for _, value in found] == TRICKY
        text = path.read_text("utf-8").splitlines()
        assert all("{" in text[number - 1] for number, _ in found)


def test_objects_in_a_row(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text("\n".join(json.dumps(value, indent=1) for value in TRICKY), "utf-8")
    assert [value for _, value in _objects(path)] == TRICKY


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('{"text": "a",}', "not JSON"),
        ('{"text": "a}', "not JSON: no end"),
        ('{"text": {"a": "b"}', "not JSON: no end"),
        ('{"text" "a"}', "not JSON"),
        ('"a string"', "not a JSON object"),
    ],
)
@pytest.mark.parametrize("block", [5, 1 << 20])
def test_a_broken_object_costs_only_itself(
    tmp_path: Path, monkeypatch, broken: str, reason: str, block: int
) -> None:
    monkeypatch.setattr(record_files, "_BLOCK_BYTES", block)
    path = tmp_path / "d.json"
    path.write_text(f'[\n  {{"text": "1"}},\n  {broken},\n  {{"text": "2"}},\n  {{"text": "3"}}\n]')
    found = _objects(path)
    assert [v for _, v in found if not isinstance(v, str)] == [{"text": "1"}, {"text": "2"}, {"text": "3"}]
    (problem,) = [(n, v) for n, v in found if isinstance(v, str)]
    assert problem[0] == 3
    assert problem[1].startswith(f"! {reason}")


def test_an_object_that_is_too_long(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(record_files, "MAX_RECORD_BYTES", 1 << 20)
    path = tmp_path / "d.json"
    path.write_text('[\n{"a": 1},\n{"text": "' + "x" * (6 << 20) + '"},\n{"b": 2}\n]')
    found = _objects(path)
    assert found == [(2, {"a": 1}), (3, "! longer than 1 MiB"), (4, {"b": 2})]


def _rows(path: Path, columns: tuple[str, ...] = ()) -> list[tuple[int, Any]]:
    return _read(table_rows(path, lambda n: None, lambda names: list(columns) or names))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", 'prompt,completion\nq,"a, ""b""\nc"\n\nr,s\n'),
        ("d.csv", 'prompt;completion\r\nq;"a, ""b""\r\nc"\r\n\r\nr;s\r\n'),
        ("d.tsv", 'prompt\tcompletion\nq\t"a, ""b""\nc"\n\nr\ts'),
    ],
)
def test_tables(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8-sig"))
    answer = 'a, "b"\r\nc' if "\r" in content else 'a, "b"\nc'
    assert _rows(path) == [
        (2, {"prompt": "q", "completion": answer}),
        (5, {"prompt": "r", "completion": "s"}),
    ]


def test_rows_that_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('text,id\na,1\nb,2,3\n"c"d,4\ne\n\x00f,5\n"g,6\n' + "h,7\n" * 100)
    assert _rows(path) == [
        (2, {"text": "a", "id": "1"}),
        (3, "! 3 columns, not 2"),
        (4, "! not CSV: ',' expected after '\"'"),
        (5, {"text": "e"}),
        (6, {"text": "\ufffdf", "id": "5"}),
        (7, "! not CSV: unexpected end of data"),
    ]


def test_a_table_of_unknown_columns(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("who,what\nx,y\n")
    with pytest.raises(InputError) as caught:
        _rows(path)
    assert caught.value.code == "data_columns"
    assert caught.value.problem.args["columns"] == "who, what"
    assert _rows(path, ("prompt", "completion")) == [(2, {"who": "x", "what": "y"})]
    path.write_text("Sätze\n你好\n", encoding="utf-8")
    assert _rows(path) == [(2, {"text": "你好"})]


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    messages = [[{"role": "user", "content": f"q{i}"}] for i in range(3000)]
    path = tmp_path / "d.parquet"
    parquet.write_table(arrow.table({"messages": messages, "n": list(range(3000))}), path)
    read: list[int] = []
    rows = list(parquet_rows(path, read.append, lambda names: names))
    assert [number for number, _ in rows] == list(range(1, 3001))
    assert rows[2999][1] == {"messages": messages[2999], "n": 2999}
    assert len(read) == 3
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError) as caught:
        list(parquet_rows(path, read.append, lambda names: names))
    assert caught.value.code == "data_format"


def test_parquet_without_its_package(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(AppError) as caught:
        list(parquet_rows(tmp_path / "d.parquet", print, lambda names: names))
    assert caught.value.code == "package_missing"

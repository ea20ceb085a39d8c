from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from trainer.contract.errors import InputError
from trainer.data.binidx import BinidxReader, BinidxWriter, ConvertMeta, binidx_prefix


def _meta(writer: BinidxWriter) -> ConvertMeta:
    return ConvertMeta(
        data_name="d", data_sha256="0", vocab_sha256="1", tokenizer="world", vocab_size=65530,
        documents=writer.documents, tokens=writer.tokens, assistant_tokens=writer.assistant_tokens,
        max_token=writer.max_token, skipped=0,
    )  # fmt: skip


def _write(prefix: Path, documents: list[list[int]], vocab_size: int = 65536) -> None:
    with BinidxWriter(prefix, vocab_size) as writer:
        for ids in documents:
            half = len(ids) // 2
            for part in (ids[:half], ids[half:]):
                writer.add(np.array(part, dtype=np.int64), np.array([i % 2 for i in part], dtype=np.uint8))
            writer.end_document()
        writer.finish(_meta(writer))


def test_the_exact_bytes_of_an_index(tmp_path: Path) -> None:
    _write(tmp_path / "d", [[5, 65535, 0], [7, 0]])
    assert (tmp_path / "d.bin").read_bytes() == struct.pack("<5H", 5, 65535, 0, 7, 0)
    assert (tmp_path / "d.idx").read_bytes() == (
        b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 2, 3) + struct.pack("<2i", 3, 2)
        + struct.pack("<2q", 0, 6) + struct.pack("<3q", 0, 1, 2)
    )  # fmt: skip
    assert (tmp_path / "d.mask").read_bytes() == bytes([1, 1, 0, 1, 0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.bin", "d.idx", "d.json", "d.mask"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    _write(tmp_path / "a.b", [[5, 65535, 0], [7, 0]])
    reader = BinidxReader(tmp_path / "a.b")
    assert (len(reader), reader.tokens, reader.sizes.tolist()) == (2, 5, [3, 2])
    assert reader[0].dtype == np.uint16
    assert reader[0].tolist() == [5, 65535, 0]
    assert reader[1].tolist() == [7, 0]
    mask = reader.mask(1)
    assert mask is not None
    assert mask.tolist() == [1, 0]
    assert reader.meta is not None
    assert (reader.meta.max_token, reader.meta.assistant_tokens) == (65535, 3)


def test_large_vocabularies_are_int32(tmp_path: Path) -> None:
    _write(tmp_path / "d", [[70000, 0]], vocab_size=70001)
    reader = BinidxReader(tmp_path / "d")
    assert reader[0].dtype == np.int32
    assert reader[0].tolist() == [70000, 0]


def test_nothing_is_left_without_finish(tmp_path: Path) -> None:
    with BinidxWriter(tmp_path / "d", 65536) as writer:
        writer.add(np.array([1, 2]), np.array([1, 1], dtype=np.uint8))
    assert list(tmp_path.iterdir()) == []


def _foreign(tmp_path: Path, code: int = 4, **change: object) -> Path:
    """Two documents as json2binidx writes them: int32, named `…_text_document`."""
    parts = {
        "magic": b"MMIDIDX\x00\x00", "version": 1, "sizes": (3, 2), "pointers": (0, 12),
        "bin": (9, 8, 0, 7, 0), **change,
    }  # fmt: skip
    prefix = tmp_path / "x_text_document"
    sizes, pointers, tokens = parts["sizes"], parts["pointers"], parts["bin"]
    (tmp_path / "x_text_document.bin").write_bytes(struct.pack(f"<{len(tokens)}i", *tokens))
    (tmp_path / "x_text_document.idx").write_bytes(
        parts["magic"]
        + struct.pack("<QBQQ", parts["version"], code, len(sizes), 3)
        + struct.pack(f"<{len(sizes)}i", *sizes)
        + struct.pack(f"<{len(pointers)}q", *pointers)
        + struct.pack("<3q", 0, 1, 2)
    )
    return prefix


def test_a_file_of_json2binidx(tmp_path: Path) -> None:
    reader = BinidxReader(_foreign(tmp_path))
    assert [reader[i].tolist() for i in range(len(reader))] == [[9, 8, 0], [7, 0]]
    assert reader[0].dtype == np.int32
    assert reader.meta is None
    assert reader.mask(0) is None
    assert reader.token_range() == (0, 9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"magic": b"TNTIDX\x00\x00\x00"}, "the old TNTIDX format"),
        ({"magic": b"GIF89a\x00\x00\x00"}, "does not begin with MMIDIDX"),
        ({"version": 2}, "version 2"),
        ({"code": 6}, "type code 6"),
        ({"bin": (9, 8, 0, 7)}, "document 1 lies beyond its 16 bytes"),
        ({"pointers": (0, 2**62)}, "document 1 lies beyond its 20 bytes"),
        ({"pointers": (0, 13)}, "sizes or pointers that cannot be"),
        ({"sizes": (3, -2)}, "sizes or pointers that cannot be"),
    ],
)
def test_damaged_files_are_refused_by_what_is_wrong(tmp_path: Path, change: dict, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        BinidxReader(_foreign(tmp_path, **change))
    assert caught.value.code == "binidx_invalid"
    assert caught.value.problem.args["reason"] == reason


@pytest.mark.parametrize("size_bytes", [0, 9, 33, 34, 57, 81])
def test_truncated_indexes_are_refused(tmp_path: Path, size_bytes: int) -> None:
    prefix = _foreign(tmp_path)
    path = tmp_path / "x_text_document.idx"
    path.write_bytes(path.read_bytes()[:size_bytes])
    with pytest.raises(InputError) as caught:
        BinidxReader(prefix)
    assert caught.value.code == "binidx_invalid"


def test_sidecars_of_other_data_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a", [[1, 2, 0]])
    _write(tmp_path / "b", [[1, 0]])
    (tmp_path / "b.json").replace(tmp_path / "a.json")
    with pytest.raises(InputError) as caught:
        BinidxReader(tmp_path / "a")
    assert caught.value.problem.args["reason"] == "describes 2 tokens, not 3"


def test_tokens_beyond_the_vocabulary(tmp_path: Path) -> None:
    reader = BinidxReader(_foreign(tmp_path))
    reader.check_vocabulary(10)
    with pytest.raises(InputError) as caught:
        reader.check_vocabulary(9)
    assert caught.value.code == "token_beyond_vocab"
    assert caught.value.problem.args["token"] == 9
    with pytest.raises(InputError) as caught:
        BinidxReader(_foreign(tmp_path, bin=(9, -8, 0, 7, 0))).check_vocabulary(10)
    assert caught.value.problem.args["token"] == -8


def test_what_counts_as_a_prefix(tmp_path: Path) -> None:
    _write(tmp_path / "d.v1", [[1, 0]])
    assert binidx_prefix(tmp_path / "d.v1") == tmp_path / "d.v1"
    assert binidx_prefix(tmp_path / "d.v1.bin") == tmp_path / "d.v1"
    assert binidx_prefix(tmp_path / "d.v1.idx") == tmp_path / "d.v1"
    assert binidx_prefix(tmp_path / "none") is None
    # A folder of texts keeps its meaning although a binidx lies beside it.
    (tmp_path / "d.v1").mkdir()
    assert binidx_prefix(tmp_path / "d.v1") is None

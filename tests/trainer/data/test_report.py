from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainer.data import findings
from trainer.data.binidx import BinidxReader, ConvertMeta
from trainer.data.convert import convert
from trainer.data.report import SAMPLE_TOKENS, describe, recommended_ctx_len
from trainer.data.tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(None)


def _converted(tmp_path: Path, tokenizer, records: list[object]) -> tuple[ConvertMeta, BinidxReader]:
    data = tmp_path / "d.jsonl"
    data.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return convert(data, tmp_path / "d", tokenizer), BinidxReader(tmp_path / "d")


def test_the_answer_and_the_blank_line_behind_it_count(tmp_path: Path, tokenizer) -> None:
    turns = [("user", "你好"), ("assistant", "Hi."), ("user", "ok?"), ("assistant", "yes")]
    _, reader = _converted(tmp_path, tokenizer, [{"messages": [{"role": r, "content": c} for r, c in turns]}])
    text = "User: 你好\n\nAssistant: Hi.\n\nUser: ok?\n\nAssistant: yes"
    assert reader[0].tolist() == [*tokenizer.encode(text), 0]
    mask = reader.mask(0)
    assert mask is not None
    assert tokenizer.decode(reader[0][mask == 1]) == " Hi.\n\n yes"
    assert mask[-1] == 1
    # The same words as a text are the same tokens with the same mask.
    _, plain = _converted(tmp_path, tokenizer, [{"text": text}])
    assert plain[0].tolist() == reader[0].tolist()
    assert plain.mask(0).tolist() == mask.tolist()  # type: ignore[union-attr]


def test_doubtful_documents(tmp_path: Path, tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(findings, "VERY_LONG_TOKENS", 50)
    records = [
        {"text": "fine"},
        {"text": "User: a\n\nAssistant: \n\nUser: b\n\nAssistant: c"},
        {"text": "User: a\n\nUser: b\n\nAssistant: c"},
        {"prompt": "q", "completion": ""},
        {"text": "Itâ€™s broken"},
        {"text": "é è â ç, “quoted” — naïve Ångström"},
        {"text": "word " * 60},
        {"text": "锟斤拷"},
    ]
    meta, _ = _converted(tmp_path, tokenizer, records)
    assert {name: found.places for name, found in meta.remarks.items()} == {
        "empty_answer": ("2", "4"),
        "unbalanced_roles": ("3",),
        "mojibake": ("5", "8"),
        "very_long": ("7",),
    }
    assert meta.shapes == {"text": 7, "prompt_completion": 1}


def test_duplicates_up_to_a_limit(tmp_path: Path, tokenizer, monkeypatch) -> None:
    texts = ["a", "b", "a", "c", "b", "a", "d"]
    meta, _ = _converted(tmp_path, tokenizer, [{"text": text} for text in texts])
    assert meta.duplicates.count == 3
    assert meta.duplicates.pairs == ((3, 1), (5, 2), (6, 1))
    assert meta.duplicates.compared == 7
    monkeypatch.setattr(findings, "MAX_HASHED", 4)
    meta, _ = _converted(tmp_path, tokenizer, [{"text": text} for text in texts])
    assert (meta.duplicates.count, meta.duplicates.compared) == (1, 4)


def test_the_description(tmp_path: Path, tokenizer) -> None:
    words = [1, 7, 15, 40, 2000]
    _, reader = _converted(tmp_path, tokenizer, [{"text": " x" * n} for n in words])
    facts = describe(reader, tokenizer, 15)
    sizes = reader.sizes
    assert facts["tokens"] == int(sizes.sum())
    assert facts["fits_share"] == np.mean(sizes <= 16)
    assert sum(bar["documents"] for bar in facts["lengths"]["histogram"]) == 5
    assert facts["lengths"]["histogram"][0] == {"upto": 2, "documents": 1}
    assert (facts["lengths"]["shortest"], facts["lengths"]["longest"]) == (2, 2001)
    assert len(facts["samples"][4]["texts"]) == SAMPLE_TOKENS
    assert "".join(facts["samples"][1]["texts"]) == " x" * 7
    assert facts["recommended_ctx_len"] == 2048


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([3], 128), ([129], 128), ([130], 256), ([10] * 19 + [9000], 128), ([10, 9000], 4096)],
)
def test_the_recommended_context(sizes: list[int], expected: int) -> None:
    assert recommended_ctx_len(np.array(sizes)) == expected


@pytest.mark.parametrize("dtype", ["<u2", "<i4"])
def test_a_binidx_of_another_tool(tmp_path: Path, tokenizer, dtype: str) -> None:
    documents = [tokenizer.encode("你好"), [35, 0], [35, 0]]
    flat = np.concatenate(documents).astype(dtype)
    size = flat.dtype.itemsize
    sizes = np.array([len(d) for d in documents], "<i4")
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype("<i8") * size
    head = b"MMIDIDX\0\0" + (1).to_bytes(8, "little") + bytes([8 if dtype == "<u2" else 4])
    head += (3).to_bytes(8, "little") + (4).to_bytes(8, "little")
    prefix = tmp_path / "x_text_document"
    prefix.with_name("x_text_document.bin").write_bytes(flat.tobytes())
    prefix.with_name("x_text_document.idx").write_bytes(
        head + sizes.tobytes() + starts.tobytes() + np.arange(4, dtype="<i8").tobytes()
    )
    facts = describe(BinidxReader(prefix), tokenizer, 16)
    assert facts["shapes"] == {"binidx": 3}
    assert facts["duplicates"] == {"count": 1, "pairs": ((3, 2),), "compared": 3}
    assert "".join(facts["samples"][0]["texts"]) == "你好"
    assert facts["assistant_tokens"] is None

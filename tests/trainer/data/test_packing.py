from __future__ import annotations

import itertools
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.errors import InputError
from trainer.data.binidx import BinidxReader, BinidxWriter, ConvertMeta
from trainer.data.packing import ALIGN, IGNORED, PackedRows, best_fit, collate


@pytest.fixture
def make(tmp_path: Path):
    def build(documents: list[list[int]], masks: list[list[int]] | None = None) -> BinidxReader:
        prefix = tmp_path / "d"
        with BinidxWriter(prefix, 65536) as writer:
            for i, ids in enumerate(documents):
                mask = [1] * len(ids) if masks is None else masks[i]
                writer.add(np.array(ids, dtype=np.int64), np.array(mask, dtype=np.uint8))
                writer.end_document()
            writer.finish(
                ConvertMeta(
                    data_name="d",
                    data_sha256="0",
                    vocab_sha256="1",
                    tokenizer="world",
                    vocab_size=65536,
                    documents=writer.documents,
                    tokens=writer.tokens,
                    assistant_tokens=0,
                    max_token=writer.max_token,
                    skipped=0,
                )
            )
        return BinidxReader(prefix)

    return build


def _numbered(sizes: list[int]) -> list[list[int]]:
    """Documents whose tokens are all different, so that every target says where it is from."""
    numbers = iter(range(1, 65536))
    return [[next(numbers) for _ in range(size)] for size in sizes]


SIZES = st.lists(st.integers(0, 120), min_size=1, max_size=40).filter(lambda sizes: max(sizes) > 1)


@settings(max_examples=80)
@given(sizes=SIZES, ctx_len=st.integers(16, 70), packing=st.booleans())
def test_every_token_after_the_first_is_a_target_exactly_once(
    tmp_path_factory, sizes: list[int], ctx_len: int, packing: bool
) -> None:
    documents = _numbered(sizes)
    before = {b: a for ids in documents for a, b in itertools.pairwise(ids)}
    prefix = tmp_path_factory.mktemp("p") / "d"
    with BinidxWriter(prefix, 65536) as writer:
        for ids in documents:
            writer.add(np.array(ids, dtype=np.int64), np.ones(len(ids), dtype=np.uint8))
            writer.end_document()
        writer.finish(
            ConvertMeta(
                data_name="",
                data_sha256="",
                vocab_sha256="",
                tokenizer="",
                vocab_size=65536,
                documents=len(sizes),
                tokens=sum(sizes),
                assistant_tokens=0,
                max_token=0,
                skipped=0,
            )
        )
    packed = PackedRows(
        BinidxReader(prefix), np.arange(len(sizes)), ctx_len=ctx_len, packing=packing, loss_mask="all"
    )
    seen: Counter[int] = Counter()
    for i in range(len(packed)):
        row = packed.row(i)
        assert row.tokens.size <= -(-ctx_len // ALIGN) * ALIGN
        assert row.tokens.size % ALIGN == 0
        assert row.resets[0]
        counted = row.targets != IGNORED
        assert counted.any()
        for token, target in zip(row.tokens[counted], row.targets[counted], strict=True):
            assert before[int(target)] == token
        seen.update(row.targets[counted].tolist())
    assert seen == Counter(before.keys())
    assert packed.counted_tokens == len(before)


def test_the_layout_of_a_small_example(make) -> None:
    documents = _numbered([20, 5, 4])
    packed = PackedRows(make(documents), np.arange(3), ctx_len=48, packing=True, loss_mask="all")
    # 19 inputs take 32 places, 4 inputs 16; the last document needs a row of its own.
    assert len(packed) == 2
    row = packed.row(0)
    assert row.tokens.tolist() == [*documents[0][:-1], *[0] * 13, *documents[1][:-1], *[0] * 12]
    ignored = [IGNORED]
    assert row.targets.tolist() == [*documents[0][1:], *ignored * 13, *documents[1][1:], *ignored * 12]
    assert row.resets.tolist() == [True, False, True]
    assert packed.row(1).tokens.size == 16


def test_long_documents_are_cut(make) -> None:
    documents = _numbered([41])
    packed = PackedRows(make(documents), np.arange(1), ctx_len=16, packing=True, loss_mask="all")
    rows = [packed.row(i) for i in range(len(packed))]
    assert [(r.targets != IGNORED).sum() for r in rows] == [16, 16, 8]
    assert rows[1].tokens.tolist() == documents[0][16:32]
    assert rows[1].targets.tolist() == documents[0][17:33]


def test_whole_documents_keep_to_one_row(make) -> None:
    documents = _numbered([41, 10, 8, 70])
    packed = PackedRows(make(documents), np.arange(4), ctx_len=32, packing=True, loss_mask="all", whole=True)
    rows = [packed.row(i) for i in range(len(packed))]
    assert sorted(row.tokens.size for row in rows) == [32, 48, 80]
    assert sorted(row.read_tokens for row in rows) == [9 + 7, 40, 69]
    assert all(row.resets.sum() == 1 for row in rows if row.tokens.size > 32)
    assert packed.counted_tokens == 40 + 9 + 7 + 69


def test_only_the_assistants_words(make) -> None:
    documents = _numbered([40, 6, 4])
    masks = [[0] * 20 + [1] * 20, [0, 0, 0, 1, 0, 1], [1, 0, 0, 0]]
    reader = make(documents, masks)
    packed = PackedRows(reader, np.arange(3), ctx_len=16, packing=False, loss_mask="assistant")
    targets = [t for i in range(len(packed)) for t in packed.row(i).targets.tolist() if t != IGNORED]
    expected = [t for ids, mask in zip(documents, masks, strict=True)
                for t, m in list(zip(ids, mask, strict=True))[1:] if m]  # fmt: skip
    assert sorted(targets) == sorted(expected)
    assert packed.counted_tokens == len(expected) == 22
    # Of the first document's three pieces the first has no target; the third document has none at all.
    assert len(packed) == 3


def test_no_target_at_all(make) -> None:
    reader = make([[1, 0], [2]], [[1, 0], [1]])
    with pytest.raises(InputError) as caught:
        PackedRows(reader, np.arange(2), ctx_len=16, packing=True, loss_mask="assistant")
    assert caught.value.code == "data_no_target"
    with pytest.raises(InputError) as caught:
        PackedRows(reader, np.array([1]), ctx_len=16, packing=True, loss_mask="all")
    assert caught.value.code == "data_no_target"


def test_a_mask_that_is_not_there(make) -> None:
    reader = make([[1, 0]])
    (reader.prefix.parent / "d.mask").unlink()
    with pytest.raises(InputError) as caught:
        PackedRows(BinidxReader(reader.prefix), np.arange(1), ctx_len=16, packing=True, loss_mask="assistant")
    assert caught.value.code == "data_mask_missing"


def test_collating_pads_to_the_longest_row(make) -> None:
    packed = PackedRows(make(_numbered([30, 5])), np.arange(2), ctx_len=32, packing=False, loss_mask="all")
    batch = collate([packed.row(0), packed.row(1)])
    assert batch.tokens.shape == batch.targets.shape == (2, 32)
    assert batch.resets.tolist() == [[True, False], [True, False]]
    assert (batch.targets[1, 4:] == IGNORED).all()
    assert (batch.tokens[1, 4:] == 0).all()


def _best_fit_one_by_one(units: np.ndarray, capacity: int) -> int:
    rooms: list[int] = []
    for size in sorted(units.tolist(), reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - size)
        else:
            rooms.append(capacity - size)
    return len(rooms)


@settings(max_examples=200)
@given(data=st.data(), capacity=st.integers(1, 40))
def test_best_fit_equals_the_slow_one(data, capacity: int) -> None:
    units = np.array(data.draw(st.lists(st.integers(1, capacity), min_size=1, max_size=80)))
    bins = best_fit(units, capacity)
    fill = np.bincount(bins, weights=units)
    assert fill.max() <= capacity
    assert fill.min() > 0
    assert fill.size == _best_fit_one_by_one(units, capacity)
    assert (best_fit(units, capacity) == bins).all()


def test_a_million_documents_are_packed_quickly() -> None:
    units = np.random.RandomState(0).randint(1, 257, 1_000_000)
    start_s = time.process_time()
    bins = best_fit(units, 256)
    assert time.process_time() - start_s < 3
    assert bins.max() + 1 < 1.01 * units.sum() / 256

"""The compiled trie against the plain form, on vocabularies that overlap in every way."""

from __future__ import annotations

import gc
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.greedy import MAX_TOKEN_BYTES, GreedyEncoder, TrieEncoder
from trainer.kernels.native.build import COMPILERS, NativeUnavailableError

pytestmark = pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C compiler here")

BYTES = {i + 1: bytes([i]) for i in range(256)}
SYLLABLES = st.text("abé你\0", min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.lists(SYLLABLES, max_size=40), st.lists(SYLLABLES, max_size=60).map("".join))
def test_any_vocabulary(tokens: list[str], text: str) -> None:
    # A token may be there twice, or be one of the bytes: the last id counts in both forms.
    vocabulary = {**BYTES, **{1000 + 7 * i: token.encode() for i, token in enumerate(tokens)}}
    assert TrieEncoder(vocabulary)(text).tolist() == GreedyEncoder(vocabulary)(text)


def test_ids_up_to_the_largest() -> None:
    assert TrieEncoder({**BYTES, 2**31 - 1: b"ab"})("cab").tolist() == [ord("c") + 1, 2**31 - 1]


def test_a_token_longer_than_any_vocabulary_has() -> None:
    assert TrieEncoder({**BYTES, 300: b"a" * MAX_TOKEN_BYTES})("a" * (MAX_TOKEN_BYTES + 1)).tolist() == [
        300,
        98,
    ]
    with pytest.raises(NativeUnavailableError):
        TrieEncoder({**BYTES, 300: b"a" * (MAX_TOKEN_BYTES + 1)})


def test_tries_do_not_share_anything() -> None:
    one, other = TrieEncoder({**BYTES, 300: b"ab"}), TrieEncoder({**BYTES, 301: b"abc"})
    assert (one("abc").tolist(), other("abc").tolist()) == ([300, 100], [301])
    del one
    gc.collect()
    assert other("abc").tolist() == [301]

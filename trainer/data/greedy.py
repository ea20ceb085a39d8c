"""Greedy longest match on UTF-8 bytes, as the World tokenizer does it: compiled, or in Python."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainer.kernels.native.build import NativeUnavailableError, load_library

# The trie is built by a function that calls itself once a byte.
MAX_TOKEN_BYTES = 1024


class GreedyEncoder:
    """The plain form.

    Args:
        tokens: bytes of each id; every single byte must be there.
    """

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        self._ids = {token: token_id for token_id, token in tokens.items()}
        lengths: dict[bytes, set[int]] = {}
        for token in self._ids:
            if len(token) > 1:
                lengths.setdefault(token[:2], set()).add(len(token))
        self._lengths = {start: sorted(found, reverse=True) for start, found in lengths.items()}

    def __call__(self, text: str) -> list[int]:
        source, ids, lengths = text.encode("utf-8"), self._ids, self._lengths
        out: list[int] = []
        position, end = 0, len(source)
        while position < end:
            for length in lengths.get(source[position : position + 2], ()):
                # A slice over the end is shorter than `length`, and then it may equal a shorter token.
                token_id = ids.get(source[position : position + length])
                if token_id is not None and position + length <= end:
                    break
            else:
                length = 1
                token_id = ids[source[position : position + 1]]
            out.append(token_id)
            position += length
        return out


class TrieEncoder:
    """The same in C, in a double-array trie: 1.7 MB for the World vocabulary.

    Raises:
        NativeUnavailableError: it cannot be compiled here, or the tokens are longer than any vocabulary's.
    """

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        by_bytes = sorted({token: token_id for token_id, token in tokens.items()}.items())
        lengths = np.array([len(token) for token, _ in by_bytes], dtype=np.int32)
        if lengths.max() > MAX_TOKEN_BYTES:
            raise NativeUnavailableError(f"a token of {lengths.max()} bytes")
        ids = np.array([token_id for _, token_id in by_bytes], dtype=np.int32)
        library = _library()
        text = b"".join(token for token, _ in by_bytes)
        trie = library.trie_new(text, lengths.ctypes.data, ids.ctypes.data, len(by_bytes))
        if not trie:
            raise NativeUnavailableError("no memory for the vocabulary")
        self._trie, self._encode = trie, library.trie_encode
        weakref.finalize(self, library.trie_free, trie)

    def __call__(self, text: str) -> np.ndarray:
        """Ids, int32 [n]."""
        source = text.encode("utf-8")
        ids = np.empty(len(source), dtype=np.int32)
        return ids[: self._encode(self._trie, source, len(source), ids.ctypes.data)]


@lru_cache
def _library() -> ctypes.CDLL:
    library = load_library(Path(__file__).with_suffix(".c"))
    library.trie_new.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    library.trie_new.restype = ctypes.c_void_p
    library.trie_encode.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p]
    library.trie_encode.restype = ctypes.c_int64
    library.trie_free.argtypes = [ctypes.c_void_p]
    library.trie_free.restype = None
    return library

"""Tokenizers: text to ids exactly as the reference tokenizers do it, and ids back to text.

A Python string may hold lone surrogates (JSON's `"\\ud800"` makes one), which UTF-8 cannot express and at
which the reference tokenizers raise. Here each of them counts as U+FFFD, in every tokenizer.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from trainer.contract.errors import InputError
from trainer.data.greedy import GreedyEncoder, TrieEncoder
from trainer.data.vocabulary import (
    WORLD_VOCAB_NAME,
    WORLD_VOCAB_SHA256,
    Vocabulary,
    parse_vocabulary,
    vocabulary_sha256,
    world_vocabulary_path,
)
from trainer.kernels.native.build import NativeUnavailableError

END_OF_DOCUMENT = 0
# Rows of the embedding of Pile models: the ids of the 20B tokenizer, and the same padded.
PILE_VOCAB_SIZES = frozenset({50277, 50304})
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd".encode()

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of a stretch of a document.

    Attributes:
        ids: token ids, int32 [n].
        starts: makes int64 [n], the byte of the document's UTF-8 at which each token starts; it costs
            time, so it is called only where it is needed.
    """

    ids: np.ndarray
    starts: Callable[[], np.ndarray]


class Tokenizer(Protocol):
    """What converting and generating need of a tokenizer."""

    name: str
    sha256: str
    vocab_size: int
    end_of_document: int

    def encode(self, text: str) -> list[int]: ...

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Encoded]:
        """Tokenize a document that comes in pieces, in memory of the size of a piece."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; bytes that are not UTF-8 become U+FFFD."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...


def encodable(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


class WorldTokenizer:
    """Tokenizer of a vocabulary in the World format.

    Args:
        encoder: text without surrogates -> ids, by greedy longest match on bytes.
    """

    end_of_document = END_OF_DOCUMENT

    def __init__(self, vocabulary: Vocabulary, encoder: Callable[[str], Sequence[int] | np.ndarray]) -> None:
        self.name = "world" if vocabulary.is_world else "world-format"
        self.sha256, self.vocab_size = vocabulary.sha256, vocabulary.size
        self._encoder = encoder
        # Id 0 is no text; it is in no vocabulary file.
        self._tokens = {**vocabulary.tokens, self.end_of_document: b""}

    @cached_property
    def _lengths(self) -> np.ndarray:
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token_id, token in self._tokens.items():
            lengths[token_id] = len(token)
        return lengths

    def encode(self, text: str) -> list[int]:
        return self._ids(encodable(text)).tolist()

    def _ids(self, text: str) -> np.ndarray:
        return np.asarray(self._encoder(text), dtype=np.int32)

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Encoded]:
        """Tokenize a document that comes in pieces; the ids are those of the whole text."""
        text, offset = "", 0
        for piece in pieces:
            if text:
                ids, n_bytes, text = self._settled(text)
                yield self._encoded(ids, offset)
                offset += n_bytes
            text += encodable(piece)
        if text:
            yield self._encoded(self._ids(text), offset)

    def _settled(self, text: str) -> tuple[np.ndarray, int, str]:
        """The tokens that no later text can change, their bytes, and the text after them."""
        source = text.encode("utf-8")
        ids = self._ids(text)
        ends = np.cumsum(self._lengths[ids])
        # A match looks no further than the longest token, so those starting earlier are final.
        final = int(np.searchsorted(ends - self._lengths[ids], len(source) - self._lengths.max(), "right"))
        while final > 0 and ends[final - 1] < len(source) and source[ends[final - 1]] & 0xC0 == 0x80:
            final -= 1
        n_bytes = int(ends[final - 1]) if final > 0 else 0
        return ids[:final], n_bytes, source[n_bytes:].decode("utf-8")

    def _encoded(self, ids: np.ndarray, offset: int) -> Encoded:
        def starts() -> np.ndarray:
            lengths = self._lengths[ids]
            return offset + np.cumsum(lengths) - lengths

        return Encoded(ids, starts)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        tokens = self._tokens
        return b"".join(tokens.get(int(token_id), _REPLACEMENT) for token_id in ids)

    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


class JsonTokenizer:
    """A `tokenizer.json` of the package tokenizers; for Pile models `20B_tokenizer.json`.

    Its pre-tokenizer splits whitespace by what follows, so a blank line in the middle of a text is the token
    of a newline twice (187, 187 in 20B), and at the text's end it is one token (535). Training text is
    encoded as a whole and keeps these ids; a prompt ending in a blank line must be given 187, 187 to match.

    A document in pieces is encoded piece by piece; that gives the ids of the whole text where pieces are cut
    before a newline, as the readers do.
    """

    end_of_document = END_OF_DOCUMENT

    def __init__(self, raw: bytes, path: Path) -> None:
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(raw.decode("utf-8-sig"))
        except Exception as error:
            # The package raises bare Exception for whatever is wrong with the file.
            raise InputError("vocab_invalid", path=str(path), reason=str(error)) from error
        vocab: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        if not vocab:
            raise InputError("vocab_invalid", path=str(path), reason="no tokens")
        self.vocab_size = max(vocab.values()) + 1
        self.sha256 = hashlib.sha256(raw).hexdigest()
        is_pile = vocab.get("<|endoftext|>") == 0 and vocab.get("ĊĊ") == 535 and len(vocab) == 50277
        self.name = "pile20b" if is_pile else "tokenizer.json"

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(encodable(text), add_special_tokens=False).ids

    def encode_pieces(self, pieces: Iterable[str]) -> Iterator[Encoded]:
        offset = 0
        for piece in pieces:
            text = encodable(piece)
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            yield Encoded(
                np.array(encoding.ids, dtype=np.int32),
                lambda offset=offset, text=text, found=encoding: offset + _byte_starts(text, found.offsets),
            )
            offset += len(text.encode("utf-8"))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return self.decode(ids).encode("utf-8")

    def decode(self, ids: Iterable[int]) -> str:
        kept = [int(token_id) for token_id in ids if int(token_id) != self.end_of_document]
        return self._tokenizer.decode(kept, skip_special_tokens=False)


def _byte_starts(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """UTF-8 offsets of spans given in characters: int64 [n]."""
    starts = np.array([start for start, _ in offsets], dtype=np.int64)
    if text.isascii():
        return starts
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    return np.concatenate(([0], np.cumsum(widths)))[starts]


def load_tokenizer(vocab: Path | None, vocab_size: int | None = None) -> Tokenizer:
    """The tokenizer of a vocabulary file, or the one that fits a model's vocabulary size.

    Args:
        vocab: a World vocabulary (.txt) or a tokenizer.json; None chooses by `vocab_size`.
        vocab_size: rows of the model's embedding, if known.

    Raises:
        InputError: `vocab_not_found` (also where a model needs a vocabulary that no package ships),
            `vocab_invalid`.
    """
    if vocab is None:
        if vocab_size is not None and vocab_size in PILE_VOCAB_SIZES:
            raise InputError("vocab_not_found", path="20B_tokenizer.json")
        vocab = world_vocabulary_path()
    path = Path(vocab)
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("vocab_not_found", path=str(path)) from error
    except OSError as error:
        raise InputError("vocab_invalid", path=str(path), reason=error.strerror or str(error)) from error
    if raw.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return JsonTokenizer(raw, path)
    vocabulary = parse_vocabulary(raw, path)
    return WorldTokenizer(vocabulary, _fastest_encoder(vocabulary))


def _fastest_encoder(vocabulary: Vocabulary) -> Callable[[str], Sequence[int] | np.ndarray]:
    """Ours in C where it can be compiled; else the package's in Rust, which knows one vocabulary only."""
    try:
        return TrieEncoder(vocabulary.tokens)
    except NativeUnavailableError as error:
        _LOG.info("tokenizing without the compiled trie: %s", error)
    return (_rust_world_encoder() if vocabulary.is_world else None) or GreedyEncoder(vocabulary.tokens)


def _rust_world_encoder() -> Callable[[str], list[int]] | None:
    """The package's encoder, if the vocabulary that it carries is the standard one."""
    import pyrwkv_tokenizer

    own = Path(str(pyrwkv_tokenizer.__file__)).parent / WORLD_VOCAB_NAME
    if not own.is_file() or vocabulary_sha256(own.read_bytes()) != WORLD_VOCAB_SHA256:
        return None
    return pyrwkv_tokenizer.RWKVTokenizer(vocab_filepath=str(own)).encode

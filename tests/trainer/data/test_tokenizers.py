from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

from trainer.contract.errors import InputError
from trainer.data import greedy, tokenizers
from trainer.data.greedy import GreedyEncoder
from trainer.data.tokenizers import JsonTokenizer, WorldTokenizer, load_tokenizer
from trainer.data.vocabulary import (
    WORLD_VOCAB_NAME,
    WORLD_VOCAB_SHA256,
    parse_vocabulary,
    vocabulary_sha256,
    world_vocabulary_path,
)
from trainer.kernels.native import build


@pytest.fixture(scope="module")
def world():
    return load_tokenizer(None)


@pytest.fixture(scope="module")
def rust():
    encode = tokenizers._rust_world_encoder()
    assert encode is not None
    return encode


@pytest.fixture(scope="module")
def reference():
    return TRIE_TOKENIZER(str(world_vocabulary_path()))


@pytest.fixture(scope="module")
def plain_encoder():
    path = world_vocabulary_path()
    return GreedyEncoder(parse_vocabulary(path.read_bytes(), path).tokens)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
TEMPLATE_TEXT = st.lists(
    st.sampled_from(
        ["User: ", "\n\n", "\n", " ", "  ", "你好", "😀", "é", "\x00", "\r\n", "Assistant:", "//", "e\u0301"]
    ),
    max_size=60,
).map("".join)


def test_the_vocabularies_of_both_packages_are_the_same_file() -> None:
    import pyrwkv_tokenizer

    own = Path(pyrwkv_tokenizer.__file__).parent / WORLD_VOCAB_NAME
    assert world_vocabulary_path().parent.name == "rwkv"
    assert vocabulary_sha256(world_vocabulary_path().read_bytes()) == WORLD_VOCAB_SHA256
    assert vocabulary_sha256(own.read_bytes()) == WORLD_VOCAB_SHA256


def test_known_ids(world) -> None:
    for text, token in (("\n", 11), ("\n\n", 261), ("\n\n\n", 3328), (" ", 33), (":", 59), ("User", 24281),
                        ("\x16", 23), ("\x17", 24), ("\r\n", 263), ("\x00", 1)):  # fmt: skip
        assert world.encode(text) == [token]
    assert len(world.encode("Assistant")) == 2
    assert (world.name, world.vocab_size, world.end_of_document) == ("world", 65530, 0)


@settings(max_examples=300)
@given(st.one_of(ANY_TEXT, TEMPLATE_TEXT))
def test_ids_are_those_of_the_reference(world, reference, plain_encoder, rust, text: str) -> None:
    plain = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    expected = reference.encode(plain)
    assert world.encode(text) == expected
    assert rust(plain) == expected
    assert plain_encoder(plain) == expected
    assert world.decode(expected) == plain


def test_every_block_of_unicode(world, reference) -> None:
    codes = [c for c in range(0, 0x110000, 97) if not 0xD800 <= c < 0xE000]
    text = "".join(map(chr, codes))
    assert world.encode(text) == reference.encode(text)


def test_without_a_compiler_the_ids_are_the_same(world, tmp_path: Path, monkeypatch, caplog) -> None:
    text, own = "User: 你好\n\nAssistant: ok \ud800 " * 20, _tiny_vocab(tmp_path / "v.txt", {300: "ab"})
    monkeypatch.setattr(build, "COMPILERS", ())
    greedy._library.cache_clear()
    with caplog.at_level(logging.INFO):
        assert load_tokenizer(None).encode(text) == world.encode(text)
        assert load_tokenizer(own).encode("abc") == [300, ord("c") + 1]
    assert caplog.messages == ["tokenizing without the compiled trie: there is no C compiler"] * 2
    greedy._library.cache_clear()


def test_lone_surrogates_count_as_the_replacement_character(world) -> None:
    assert world.encode("a\ud800b\udfffc") == world.encode("a\ufffdb\ufffdc")


def test_decoding_takes_any_id_and_any_cut(world) -> None:
    assert world.decode([24281, 0, 59]) == "User:"
    assert world.decode([65531]) == "\ufffd"
    assert world.decode_bytes([3319, 153]) == b"\xf0\x9f\x98"
    assert world.decode([3319, 153]) == "\ufffd"
    assert world.decode(np.array([59, 33], dtype=np.uint16)) == ": "


@settings(max_examples=60)
@given(st.lists(st.one_of(ANY_TEXT, TEMPLATE_TEXT, st.just("=" * 150), st.just("你" * 90)), max_size=6))
def test_pieces_give_the_ids_of_the_whole(world, pieces: list[str]) -> None:
    whole = world.encode("".join(pieces))
    encoded = list(world.encode_pieces(iter(pieces)))
    ids = [int(i) for part in encoded for i in part.ids]
    starts = [int(s) for part in encoded for s in part.starts()]
    assert ids == whole
    lengths = [len(world.decode_bytes([i])) for i in whole]
    assert starts == list(np.cumsum(lengths) - lengths)


def _tiny_vocab(path: Path, extra: dict[int, str]) -> Path:
    lines = [f"{i + 1} {bytes([i])!r} 1" for i in range(256)]
    lines += [f"{token_id} {text!r} {len(text.encode())}" for token_id, text in extra.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_another_vocabulary_of_the_world_format(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(_tiny_vocab(tmp_path / "v.txt", {300: "ab", 301: "abcd", 302: "你好"}))
    assert isinstance(tokenizer, WorldTokenizer)
    assert tokenizer.encode("abcdab你好abc") == [301, 300, 302, 300, ord("c") + 1]
    assert (tokenizer.name, tokenizer.vocab_size) == ("world-format", 303)
    assert tokenizer.decode([301, 302]) == "abcd你好"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("300 'ab' 3", "line 257"),
        ("x 'ab' 2", "line 257"),
        ("300 __import__('os') 2", "line 257"),
        ("0 'ab' 2", "line 257"),
        ("5 'ab' 2", "line 257: id 5 again"),
        ("300 '' 0", "line 257"),
    ],
)
def test_a_bad_vocabulary_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = _tiny_vocab(tmp_path / "v.txt", {})
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_tokenizer(path)
    assert caught.value.code == "vocab_invalid"
    assert caught.value.problem.args["reason"] == reason


def test_a_vocabulary_without_all_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("1 'a' 1\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_tokenizer(path)
    assert caught.value.problem.args["reason"] == "no token for byte 0x00"


def test_a_missing_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_tokenizer(tmp_path / "none.txt")
    assert caught.value.code == "vocab_not_found"
    with pytest.raises(InputError) as caught:
        load_tokenizer(None, 50277)
    assert caught.value.problem.args["path"] == "20B_tokenizer.json"


@pytest.fixture
def json_path(tmp_path: Path) -> Path:
    """A byte-level BPE made here, with the pre-tokenizer of the 20B tokenizer."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = (
        {"<|endoftext|>": 0} | {letter: i + 1 for i, letter in enumerate(letters)} | {"ĊĊ": 300, "ab": 301}
    )
    tokenizer = Tokenizer(models.BPE(vocab, [("Ċ", "Ċ"), ("a", "b")]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_a_tokenizer_json(json_path: Path) -> None:
    tokenizer = load_tokenizer(json_path)
    assert isinstance(tokenizer, JsonTokenizer)
    assert tokenizer.vocab_size == 302
    newline = tokenizer.encode("\n")[0]
    # A blank line is one token at the end of a text and two inside it.
    assert tokenizer.encode("\n\n") == [300]
    assert tokenizer.encode("ab\n\nab") == [301, newline, newline, 301]
    assert tokenizer.decode([301, 0, newline]) == "ab\n"
    (encoded,) = tokenizer.encode_pieces(iter(["é😀ab"]))
    assert list(encoded.starts()) == [0, 0, 2, 2, 2, 2, 6]


def test_a_tokenizer_json_in_pieces(json_path: Path) -> None:
    tokenizer = load_tokenizer(json_path)
    encoded = list(tokenizer.encode_pieces(iter(["é ab", "\n\nab ab"])))
    assert [int(i) for e in encoded for i in e.ids] == tokenizer.encode("é ab\n\nab ab")
    assert int(encoded[1].starts()[0]) == 5


def test_a_broken_tokenizer_json(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"version": "1.0"}), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_tokenizer(path)
    assert caught.value.code == "vocab_invalid"

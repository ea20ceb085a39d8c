from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.roles import RoleMarker
from trainer.data.tokenizers import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(None)


def _counted(tokenizer, *pieces: str) -> tuple[str, bool]:
    """The text that counts, and whether the end of the document does."""
    marker = RoleMarker()
    out = b""
    for encoded in tokenizer.encode_pieces(marker.watch(iter(pieces))):
        mask = marker.mask(encoded.starts())
        out += tokenizer.decode_bytes(encoded.ids[mask == 1])
    return out.decode(), marker.counts_at_end


CASES = [
    ("User: 你好\n\nAssistant: 早上好\n\nUser: a\n\nAssistant: b 😀", " 早上好\n\n b 😀", True),
    ("System: be kind\n\nUser: q\n\nAssistant: a\n\nUser: again", " a\n\n", False),
    ("Instruction: do\n\nInput: x\n\nResponse: y", " y", True),
    ("Question: 1+1?\n\nAnswer: 2", " 2", True),
    ("Q: 1+1?\nA: 2\nQ: 2+2?\nA: 4", " 2\n 4", True),
    ("User：问\n\nAssistant：答", "答", True),
    # An answer may hold lines that look like turns.
    ("User: q\n\nAssistant: see\nUser: not a turn\nend", " see\nUser: not a turn\nend", True),
    # A preface does not hide the turns.
    ("A talk.\n\nUser: q\n\nAssistant: a", " a", True),
    ("Assistant: only an answer", " only an answer", True),
    ("User: only a question", "", False),
    # Texts without roles count as a whole, whatever names stand in them.
    ("A novel.\n\nHe said: hello", "A novel.\n\nHe said: hello", True),
    ("An essay.\n\nAnswer: none.", "An essay.\n\nAnswer: none.", True),
    ("The User: manual", "The User: manual", True),
]


@pytest.mark.parametrize(("text", "counted", "end_counts"), CASES)
def test_what_counts(tokenizer, text: str, counted: str, end_counts: bool) -> None:
    assert _counted(tokenizer, text) == (counted, end_counts)


def test_pieces_count_like_the_whole(tokenizer) -> None:
    pieces = ("User: é", "\n\nAssistant: ü", "\n\nUser: ö", "\nUser: more", "\n\nAssistant: ß")
    assert _counted(tokenizer, *pieces) == _counted(tokenizer, "".join(pieces)) == (" ü\n\n ß", True)


def test_surrogates_do_not_move_the_turns(tokenizer) -> None:
    assert _counted(tokenizer, "User: \ud800\n\nAssistant: a") == (" a", True)


def test_a_tokenizer_with_other_offsets(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({"<|endoftext|>": 0} | {c: i + 1 for i, c in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    marker = RoleMarker()
    (encoded,) = tokenizer.encode_pieces(marker.watch(iter(["User: 你é\n\nAssistant: 好"])))
    assert tokenizer.decode(encoded.ids[marker.mask(encoded.starts()) == 1]) == " 好"

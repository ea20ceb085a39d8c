from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from trainer.inference.text_stream import TextStream, TrimmedStream


def _stream(chunks: list[bytes], stop: tuple[str, ...] = (), *, cut_short: bool = False) -> list[str]:
    stream = TextStream(stop)
    texts = []
    for chunk in chunks:
        texts.append(stream.push(chunk))
        if stream.stopped:
            break
    return [*texts, stream.finish(cut_short=cut_short)]


def test_a_character_waits_for_its_last_byte() -> None:
    chunks = [bytes([byte]) for byte in "a世🙂b".encode()]
    assert _stream(chunks) == ["a", "", "", "世", "", "", "", "🙂", "b", ""]


def test_half_a_character_at_the_end() -> None:
    half = "世".encode()[:2]
    assert _stream([b"a", half], cut_short=True) == ["a", "", ""]
    assert _stream([b"a", half], cut_short=False) == ["a", "", "\ufffd"]


def test_bytes_that_are_no_text_show_as_replacement() -> None:
    assert "".join(_stream([b"a\xff", b"b"])) == "a\ufffdb"


def test_a_stop_text_that_spans_chunks() -> None:
    assert _stream([b"yes", b".\n", b"\nUs", b"er: no"], ("\n\nUser:",)) == ["yes", ".", "", "", ""]


def test_what_only_looked_like_a_stop_text_comes_later() -> None:
    assert _stream([b"a\n", b"\nU", b"x"], ("\n\nUser:",)) == ["a", "", "\n\nUx", ""]
    assert _stream([b"a\n"], ("\n\nUser:",)) == ["a", "\n"]


def test_the_first_of_several_stop_texts_ends_it() -> None:
    assert "".join(_stream([b"one END two STOP"], ("STOP", "END"))) == "one "


@given(
    text=st.text(alphabet="ab\n世", max_size=30),
    stop=st.lists(st.text(alphabet="ab\n世", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 120), max_size=12),
)
def test_any_cutting_gives_the_text_before_a_stop(text: str, stop: list[str], cuts: list[int]) -> None:
    data = text.encode()
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in itertools.pairwise(places)]
    joined = "".join(_stream(chunks, tuple(stop)))
    # Pieces can only be cut where a stop text has ended, so the end decides, not the beginning.
    ends = [(at + len(s), at) for s in stop if (at := text.find(s)) >= 0]
    if not ends:
        assert joined == text
    else:
        assert text.startswith(joined)
        assert len(joined) <= min(ends)[1]
        assert len(joined) in {at for _, at in ends}


def test_trimming_keeps_the_inside() -> None:
    trim = TrimmedStream()
    assert [trim.push(t) for t in (" ", "\n Hi", " ", "", "\n\nyou", "\n\n")] == [
        "",
        "Hi",
        "",
        "",
        " \n\nyou",
        "",
    ]

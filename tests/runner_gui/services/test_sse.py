from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_gui.services.sse import SseParser

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)


@given(
    st.lists(TEXT, max_size=8), st.lists(st.integers(0, 400), max_size=20), st.sampled_from(["\n", "\r\n"])
)
def test_every_event_whole_wherever_the_stream_is_cut(texts: list[str], cuts: list[int], end: str) -> None:
    stream = "".join(f": ping{end}{end}event: x{end}data: {t}{end}{end}" for t in texts).encode()
    places = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    parser = SseParser()
    got = [d for a, b in pairwise(places) for d in parser.feed(stream[a:b])]
    assert got == texts


def test_several_data_lines_are_one_event() -> None:
    assert list(SseParser().feed(b"data: a\ndata:b\n\ndata: c\n")) == ["a\nb"]


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner_gui.services.sse.MAX_BUFFER_BYTES", 10)
    with pytest.raises(ValueError, match="does not end"):
        list(SseParser().feed(b"x" * 11))

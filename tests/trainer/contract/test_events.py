from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import AppError
from trainer.contract.events import (
    EVENT_FIELDS,
    RS,
    Event,
    EventFramer,
    EventWriter,
    decode,
    encode,
    read_events,
)  # fmt: skip

JSON = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
EVENTS = st.builds(
    lambda t, seq, fields: Event(t, seq, 1.5, fields),
    st.sampled_from(sorted(EVENT_FIELDS)),
    st.integers(0, 10**9),
    st.dictionaries(st.text(min_size=2).filter(lambda k: k not in ("ts", "seq")), JSON),
)


@given(EVENTS)
def test_every_event_survives_encoding(event: Event) -> None:
    line = encode(event)
    assert line.count(b"\n") == 1
    got = decode(line)
    assert got is not None
    assert (got.t, got.seq) == (event.t, event.seq)


def test_what_is_not_finite_is_null_and_named() -> None:
    got = decode(encode(Event("step", 3, 1.0, {"loss": math.nan, "grad_norm": -math.inf, "lr": 0.5})))
    assert got is not None
    assert (got["loss"], got["grad_norm"], got["lr"]) == (None, None, 0.5)
    assert got["nonfinite"] == {"loss": "nan", "grad_norm": "-inf"}


def test_a_higher_version_or_noise_is_no_event() -> None:
    for line in (
        b'{"v":2,"seq":1,"ts":1,"t":"step"}\n',
        b"[1]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"v":1,"t":"x"}\n',
    ):
        assert decode(line) is None


@given(st.lists(EVENTS, max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_framing_does_not_depend_on_how_bytes_arrive(events: list[Event], cuts: list[int]) -> None:
    stream = b"".join(b"\xe4\xbd\xa0 half a line" + RS + encode(event) for event in events)
    framer, got, at, turn = EventFramer(), [], 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        got += framer.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
    got += framer.finish()
    assert [item.seq for item in got if isinstance(item, Event)] == [event.seq for event in events]
    assert [item for item in got if isinstance(item, str)] == ["你 half a line"] * len(events)


def test_numbering_goes_on_behind_a_half_written_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, None)
    for name in ("training", "saving"):
        writer.write("phase", name=name)
    writer.close()
    with open(path, "ab") as file:
        file.write(b'{"v":1,"seq":2,"ts":1.0,"t":"st')
    writer = EventWriter(path, None)
    writer.write("phase", name="finishing")
    writer.close()
    events, offset = read_events(path)
    assert [(e.seq, e["name"]) for e in events] == [(0, "training"), (1, "saving"), (2, "finishing")]
    assert offset == path.stat().st_size
    assert read_events(path, offset) == ([], offset)


def test_a_full_disk_leaves_whole_lines_and_says_so(small_disk: Path) -> None:
    path = small_disk / "events.jsonl"
    path.with_name("ballast").write_bytes(bytes(100_000))
    writer = EventWriter(path, None)
    for _ in range(150):
        writer.write("log", level="info", msg="x" * 900)
    with pytest.raises(AppError) as caught:
        writer.write("log", level="info", msg="x" * 60_000)
    assert caught.value.code == "disk_full"
    assert path.read_bytes().endswith(b"\n")
    written = read_events(path)[0]
    assert [event.seq for event in written] == list(range(len(written)))
    path.with_name("ballast").unlink()
    assert writer.write("log", level="info", msg="room again").seq == len(written)
    writer.close()
    assert read_events(path)[0][-1]["msg"] == "room again"


def test_every_field_of_a_type_is_written(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "e", None)
    for t, fields in EVENT_FIELDS.items():
        assert set(writer.write(t).fields) == set(fields)
    writer.close()


def test_time_to_read_grows_linearly(tmp_path: Path) -> None:
    def seconds(n: int) -> float:
        path = tmp_path / f"{n}.jsonl"
        path.write_bytes(b"".join(encode(Event("step", i, 1.0, {"step": i, "loss": 1.0})) for i in range(n)))
        before = time.process_time()
        assert len(read_events(path)[0]) == n
        return time.process_time() - before

    assert seconds(40_000) < 12 * seconds(10_000)

"""What commands print for people, and for programs that read a progress bar."""

from __future__ import annotations

import io
import re

from trainer.commands.output import BarFeed, HumanFeed
from trainer.contract.events import RS, Event, encode

# As RWKV-Runner looks for Lightning's bar.
RUNNER = re.compile(
    r"Epoch (\d+):\s+(\d+%)\|[\s\S]*\| (\d+)/(\d+) \[(\S+)<(\S+),\s+(\S+), loss=(\S+),[\s\S]*\]"
)


def printed(feed_of: type[HumanFeed], *events: Event) -> list[str]:
    stream = io.BytesIO()
    feed = feed_of(stream)
    for event in events:
        feed.write(RS + encode(event))
    return stream.getvalue().decode().splitlines()


def step(number: int, epoch: int, loss: float | None = 2.3456, step_s: float = 0.5) -> Event:
    fields = {"step": number, "epoch": epoch, "total": 8, "loss": loss, "lr": 5e-5, "tok_s": 1000.0}
    return Event("step", number, 0.0, {**fields, "step_s": step_s, "eta_s": None})


def test_a_bar_for_each_step_as_other_programs_read_it() -> None:
    hello = Event("hello", 0, 0.0, {"steps_per_epoch": 4})
    lines = printed(BarFeed, hello, *(step(n, (n - 1) // 4) for n in range(1, 7)))
    found = [match.groups() for line in lines if (match := RUNNER.fullmatch(line))]
    assert len(found) == 6
    assert found[1] == ("0", "50%", "2", "4", "00:01", "00:01", "2.00it/s", "2.346")
    assert found[3][:4] == ("0", "100%", "4", "4")
    assert found[4] == ("1", "25%", "1", "4", "00:00", "00:01", "2.00it/s", "2.346")


def test_a_slow_step_and_a_loss_that_is_no_number() -> None:
    hello = Event("hello", 0, 0.0, {"steps_per_epoch": 4})
    (line,) = printed(BarFeed, hello, step(3, 0, None, 90.0))
    match = RUNNER.fullmatch(line)
    assert match is not None
    assert match.groups() == ("0", "75%", "3", "4", "01:30", "01:30", "90.00s/it", "nan")


def test_other_events_are_the_lines_that_people_read() -> None:
    saved = Event("checkpoint", 9, 0.0, {"path": "ckpt/000004", "bytes": 2_000_000})
    assert printed(BarFeed, saved) == printed(HumanFeed, saved) == ["saved ckpt/000004 (2.0 MB)"]
    # Of a trainer that does not tell how long an epoch is.
    assert printed(BarFeed, step(1, 0)) == printed(HumanFeed, step(1, 0))
    assert printed(HumanFeed, Event("heartbeat", 1, 0.0, {})) == []

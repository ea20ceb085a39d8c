"""The speed of the last seconds, and loading that is told of."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.events import Event, EventFramer, EventWriter
from trainer.inference import vitals
from trainer.inference.vitals import TokenSpeed, memory_bytes, told_loading


def test_speed_is_of_the_last_seconds() -> None:
    now = [0.0]
    speed = TokenSpeed(lambda: now[0])
    assert speed.tok_s == 0.0
    for _ in range(100):
        now[0] += 0.1
        speed.note()
    assert speed.tok_s == pytest.approx(10, rel=0.05)
    now[0] += 10
    assert speed.tok_s == 0.0


def test_memory_of_this_process_is_told() -> None:
    assert memory_bytes("cpu") > 10_000_000


def test_loading_is_told_of(tmp_path: Path, make_checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkpoint(tmp_path / "m.pth")
    monkeypatch.setattr(vitals, "_TELL_EVERY_S", 0.01)
    feed = io.BytesIO()
    with told_loading(EventWriter(None, feed), tmp_path / "m.pth", "cpu", "fp32"):
        end = time.monotonic() + 30
        while not feed.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    told = [item for item in EventFramer().feed(feed.getvalue()) if isinstance(item, Event)]
    assert {(event.t, event["what"], event["unit"]) for event in told} == {
        ("progress", "loading_model", "bytes")
    }
    assert all(0 <= event["done"] <= event["total"] for event in told)
    before = feed.getvalue()
    time.sleep(0.05)
    assert feed.getvalue() == before

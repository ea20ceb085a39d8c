from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner_gui.model.series import CheckpointRow, EvalPoint, RunSeries
from trainer.contract.events import Event, EventWriter, decode, encode


class Feeder:
    """Numbers events as a trainer does."""

    def __init__(self, series: RunSeries) -> None:
        self.series = series
        self.seq = 0

    def __call__(self, t: str, **fields: Any) -> Event:
        event = Event(t, self.seq, 1000.0 + self.seq, fields)
        self.seq += 1
        self.series.append(event)
        return event

    def step(self, step: int, loss: float | None = 1.0, **fields: Any) -> Event:
        return self("step", step=step, loss=loss, total=100, lr=1e-4, **fields)


@pytest.fixture
def feed() -> Feeder:
    return Feeder(RunSeries(smoothing=0.9))


def test_steps_become_columns_and_nulls_become_nan(feed: Feeder) -> None:
    feed.step(1, 2.0, grad_norm=0.5, tok_s=100, mem_bytes=None)
    last = feed.step(2, None, grad_norm=None, tok_s=120.5, mem_bytes=7, nonfinite={"loss": "nan"})
    series = feed.series
    np.testing.assert_array_equal(series.steps, [1, 2])
    np.testing.assert_array_equal(series.loss, [2.0, math.nan])
    np.testing.assert_array_equal(series.grad_norm, [0.5, math.nan])
    np.testing.assert_array_equal(series.tok_s, [100, 120.5])
    np.testing.assert_array_equal(series.mem_bytes, [math.nan, 7])
    assert (series.total, series.last, series.nonfinite, series.session_steps) == (100, last, last, 2)


def test_the_average_is_corrected_for_its_start(feed: Feeder) -> None:
    losses = [4.0, 3.0, 3.5, 2.0]
    for step, loss in enumerate(losses, 1):
        feed.step(step, loss)
    weights = [[0.9 ** (n - k) for k in range(n + 1)] for n in range(4)]
    expected = [np.dot(w, losses[: len(w)]) / sum(w) for w in weights]
    np.testing.assert_allclose(feed.series.smoothed, expected, rtol=1e-12)


def test_a_loss_that_is_not_finite_does_not_spoil_the_average(feed: Feeder) -> None:
    feed.step(1, 2.0)
    feed.step(2, None)
    feed.step(3, 2.0)
    np.testing.assert_allclose(feed.series.smoothed, [2.0, 2.0, 2.0])


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.99])
def test_smoothing_anew_is_as_if_it_had_been_so_from_the_start(feed: Feeder, weight: float) -> None:
    other = Feeder(RunSeries(smoothing=weight))
    for step in range(1, 50):
        for each in (feed, other):
            each.step(step, math.sin(step))
    feed.series.set_smoothing(weight)
    np.testing.assert_allclose(feed.series.smoothed, other.series.smoothed, rtol=1e-12)
    for each in (feed, other):
        each.step(50, 3.0)
    np.testing.assert_allclose(feed.series.smoothed, other.series.smoothed, rtol=1e-12)


def test_a_resumed_run_is_one_line_with_a_seam(feed: Feeder) -> None:
    straight = Feeder(RunSeries(smoothing=0.9))
    for step in range(1, 31):
        feed.step(step, 1.0 / step)
        straight.step(step, 1.0 / step)
    for step in range(31, 38):  # done, but lost: the last checkpoint is of step 30
        feed.step(step, 99.0)
    feed("eval", step=35, loss=9.0, ppl=1.0, best=True)
    feed("hello", resumed_from=30)
    assert feed.series.session_steps == 0
    for step in range(31, 41):
        feed.step(step, 1.0 / step)
        straight.step(step, 1.0 / step)
    assert feed.series.seams == [31]
    assert feed.series.evals == []
    assert feed.series.session_steps == 10
    np.testing.assert_array_equal(feed.series.steps, np.arange(1, 41))
    np.testing.assert_array_equal(feed.series.loss, straight.series.loss)
    np.testing.assert_allclose(feed.series.smoothed, straight.series.smoothed, rtol=1e-12)


def test_what_was_seen_is_not_taken_twice(feed: Feeder) -> None:
    event = feed.step(1)
    feed.series.append(event)
    feed.series.append(Event("step", 0, 0.0, {"step": 7, "loss": 1.0}))
    assert len(feed.series) == 1


def test_checkpoints_carry_their_losses_and_the_best_is_marked() -> None:
    feed = Feeder(RunSeries(smoothing=0.5))  # exact in binary
    feed.step(1, 3.0)
    feed("eval", step=1, loss=2.5, ppl=12.2, best=True)
    feed("checkpoint", step=1, path="/r/ckpt/000001", bytes=10, kind="periodic")
    feed.step(2, 3.0)
    feed("eval", step=2, loss=2.0, ppl=7.4, best=True)
    feed("checkpoint", step=2, path="/r/ckpt/000002", bytes=10, kind="best")
    feed.step(3, 3.0)
    feed("eval", step=3, loss=2.2, ppl=9.0, best=False)
    feed("checkpoint", step=3, path="/r/ckpt/000003", bytes=11, kind="final")
    assert feed.series.evals == [EvalPoint(1, 2.5, False), EvalPoint(2, 2.0, True), EvalPoint(3, 2.2, False)]
    assert feed.series.checkpoints == [
        CheckpointRow(1, "periodic", "/r/ckpt/000001", 10, 3.0, 2.5, False),
        CheckpointRow(2, "best", "/r/ckpt/000002", 10, 3.0, 2.0, True),
        CheckpointRow(3, "final", "/r/ckpt/000003", 11, 3.0, 2.2, False),
    ]


def test_one_checkpoint_told_twice_is_one_row(feed: Feeder) -> None:
    feed("checkpoint", step=5, path="/r/ckpt/000005", bytes=10, kind="periodic")
    feed("checkpoint", step=5, path="/r/ckpt/000005", bytes=10, kind="final")
    assert [(row.step, row.kind) for row in feed.series.checkpoints] == [(5, "final")]


def test_the_course_of_a_run(feed: Feeder) -> None:
    series = feed.series
    assert series.status == ""
    feed("hello", resumed_from=None)
    feed("phase", name="reading_data")
    progress = feed("progress", what="convert", done=1, total=2, unit="bytes")
    assert (series.status, series.phase, series.progress) == ("running", "reading_data", progress)
    feed("phase", name="training")
    feed("sample", step=1, prompt="a", text="b")
    feed("from_the_future", anything=1)
    warning = feed("warning", code="data_short", args={})
    error = feed("error", code="oom_ram", args={}, fatal=True, trace_tail=None)
    feed("bye", status="failed", step=1, reason="oom_ram")
    assert (series.status, series.phase, series.progress, series.error) == ("failed", "", None, error)
    assert series.warnings == [warning]
    assert [(s.step, s.prompt, s.text) for s in series.samples] == [(1, "a", "b")]
    feed("hello", resumed_from=1)
    assert (series.status, series.error) == ("running", None)


def test_a_file_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, None)
    for step in range(1, 4):
        writer.write("step", step=step, loss=float("nan") if step == 2 else 1.0)
    writer.close()
    with open(path, "ab") as file:
        file.write(b"not an event\n" + encode(Event("step", 9, 0.0, {"step": 4, "loss": 1.0}))[:-1])
    series = RunSeries.from_file(path)
    np.testing.assert_array_equal(series.steps, [1, 2, 3])
    assert np.isnan(series.loss[1])
    assert len(RunSeries.from_file(tmp_path / "none.jsonl")) == 0


def test_half_a_million_events_take_linear_time() -> None:
    def seconds(count: int) -> float:
        feed = Feeder(RunSeries())
        began = time.process_time()
        for step in range(count):
            feed.step(step)
        return time.process_time() - began

    small, large = seconds(50_000), seconds(500_000)
    assert large < 25 * small


def test_drift_and_what_was_before_training() -> None:
    series = RunSeries()
    series.extend(
        Event(t, seq, 0.0, fields)
        for seq, (t, fields) in enumerate(
            [
                ("drift", {"step": 0, "kl": 0.0}),
                ("eval", {"step": 0, "loss": 1.0, "ppl": 2.7, "best": False, "before": True}),
                ("sample", {"step": 0, "prompt": "a", "text": "x"}),
                ("sample", {"step": 0, "prompt": "a", "text": "x again"}),
                ("drift", {"step": 4, "kl": 0.25}),
                ("eval", {"step": 4, "loss": 1.5, "ppl": 4.5, "best": True}),
            ]
        )
    )
    assert series.drifts == [(0, 0.0), (4, 0.25)]
    # The first loss after training is the best there is, although training has made it worse.
    assert [point.best for point in series.evals] == [False, True]
    assert [(sample.step, sample.text) for sample in series.samples] == [(0, "x again")]


def test_reading_many_steps_at_once_is_reading_them_one_by_one(tmp_path: Path) -> None:
    """With all that may stand there: resumed runs, foreign output, odd values, a half-written end."""

    def line(seq: int, t: str, **fields: Any) -> bytes:
        return json.dumps({"v": 1, "seq": seq, "ts": 1.0 * seq, "t": t, **fields}).encode() + b"\n"

    lines = [line(0, "hello")]
    lines += [line(n, "step", step=n, loss=5 / n, total=99, lr=1e-4, tokens=n) for n in range(1, 40)]
    lines += [
        line(40, "eval", step=39, loss=1.5),
        line(41, "step", step=40, loss=None, nonfinite={"loss": "nan"}),
    ]
    lines += [line(42, "step", step=41, loss=True, grad_norm="much"), line(43, "step", step="many", loss=1.0)]
    lines += [b"Killed\n", line(44, "hello"), line(45, "step", step=30, loss=0.5, total=120)]
    lines += [line(46, "step", step=31, loss=0.25), line(45, "step", step=32, loss=9.0)]
    lines += [line(47, "step", step=32, loss=0.1) + b"3\n[]\n\xff\xfe\n\n" + line(48, "other")]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(lines) + b'{"v": 1, "seq": 49, "t": "st')
    at_once = RunSeries.from_file(path)
    one_by_one = RunSeries()
    for part in b"".join(lines).splitlines(keepends=True):
        one_by_one.extend([decode(part)])
    for name in ("steps", "loss", "smoothed", "lr", "grad_norm"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(one_by_one, name), name)
    for name in (
        "last",
        "last_ts",
        "total",
        "seams",
        "session_steps",
        "status",
        "nonfinite",
        "evals",
        "_last_seq",
    ):
        assert getattr(at_once, name) == getattr(one_by_one, name), name
    assert at_once.read_bytes == sum(map(len, lines))
    assert len(at_once) > 30


def test_steps_without_anything_odd_are_taken_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path, None)
    for step in range(1, 20_001):
        writer.write("step", step=step, total=20_000, loss=1 / step, lr=1e-4, grad_norm=float(step))
    writer.close()
    series = RunSeries.from_file(path)
    assert series.steps.tolist() == list(range(1, 20_001))
    assert series.grad_norm[-1] == 20_000
    assert (series.total, series.session_steps) == (20_000, 20_000)

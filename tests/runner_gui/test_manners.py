"""How the window behaves while a run streams 2,000 events a second: no page freezes, and memory stays.

What is counted is the processor time of the window's thread, which does not depend on who else is at work.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from PySide6.QtCore import QAbstractEventDispatcher, QEventLoop
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QSlider,
    QWidget,
)
from pytestqt.qtbot import QtBot

from runner_gui.services.run_follower import POLL_MS
from runner_gui.window import PAGES, MainWindow
from trainer.contract.events import EventWriter
from trainer.contract.run_folder import RunFolder

EVENTS_PER_S = 2000
PER_POLL = EVENTS_PER_S * POLL_MS // 1000
GAP_S = 0.05
POLLS = 5
STEP = {
    "epoch": 0,
    "lr": 5e-5,
    "grad_norm": 0.9876,
    "tok_s": 1234.5,
    "eta_s": 1000.5,
    "mem_bytes": 1234567890,
}


class Streaming:
    """A run that another process seems to hold, and that this test writes."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lock = folder.lock()
        self.events = EventWriter(folder.events, None)
        self.events.write("hello", run_id=folder.run_id, pid=1, pgid=1)
        self.step = 0

    def write(self, count: int) -> None:
        for _ in range(count):
            self.step += 1
            loss = 2 + 1 / self.step
            self.events.write("step", step=self.step, total=10**6, loss=loss, **STEP)

    def close(self) -> None:
        self.events.close()
        self.lock.release()


@pytest.fixture
def stream(window: MainWindow, make_run: Callable[..., RunFolder], qtbot: QtBot) -> Iterator[Streaming]:
    window.workspace.prepare()
    running = Streaming(make_run(window.workspace.runs, "a-run"))
    window.train_page.run_view.chart.load()
    window.pipeline.attach(running.folder)
    running.write(PER_POLL)
    qtbot.waitUntil(lambda: len(window.train_page.run_view.series) >= PER_POLL, timeout=60_000)
    yield running
    window.pipeline.detach()
    running.close()


def turns_s(until: Callable[[], bool]) -> list[float]:
    """Let the event loop turn; the processor time that each turn took, which is what it was deaf for."""
    dispatcher = QAbstractEventDispatcher.instance()
    assert dispatcher is not None
    found = []
    while not until():
        begun = time.thread_time()
        dispatcher.processEvents(QEventLoop.ProcessEventsFlag.AllEvents)
        QApplication.sendPostedEvents()
        found.append(time.thread_time() - begun)
        time.sleep(0.001)
    return found


def test_no_page_freezes_while_a_run_streams(window: MainWindow, stream: Streaming) -> None:
    series = window.train_page.run_view.series
    found: dict[str, list[int]] = {}
    for name in PAGES:
        window.show_page(name)
        turns_s(iter((False, False, True)).__next__)  # what is drawn once only
        worst = []
        for _ in range(POLLS):
            stream.write(PER_POLL)
            target = stream.step
            worst.append(max(turns_s(lambda t=target: len(series) >= t)))
        # A collection of garbage, or pages of memory that come in, may fall into some of them.
        if statistics.median(worst) >= GAP_S:
            found[name] = [round(1000 * gap_s) for gap_s in worst]
    assert found == {}


def test_memory_grows_by_the_points_of_the_curves_alone(window: MainWindow, stream: Streaming) -> None:
    series = window.train_page.run_view.series

    def go_on(count: int) -> int:
        for _ in range(count // PER_POLL):
            stream.write(PER_POLL)
            target = stream.step
            turns_s(lambda t=target: len(series) >= t)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first, last = go_on(4000), go_on(8000)
    finally:
        tracemalloc.stop()
    # Seven numbers of eight bytes a step, in arrays that double.
    assert (last - first) / 8000 < 2 * 7 * 8 + 64


def named(widget: QWidget) -> bool:
    """Whether a screen reader has something to say of a field."""
    return bool(widget.accessibleName() or (isinstance(widget, QLineEdit) and widget.placeholderText()))


def test_everything_that_takes_input_has_a_name(window: MainWindow, qtbot: QtBot) -> None:
    window.train_page.panel.advanced.click()
    nameless = []
    for name in PAGES:
        window.show_page(name)
        qtbot.wait(20)
        for kind in (QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, QSlider):
            for widget in window.findChildren(kind):
                inside = isinstance(widget.parentWidget(), (QAbstractSpinBox, QComboBox))
                if widget.isVisible() and not inside and not named(widget):
                    nameless.append((name, type(widget).__name__, widget.objectName()))
    assert nameless == []

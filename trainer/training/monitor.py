"""Signs of life and speed: the heartbeat, tokens per second, the time that is left."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress

import psutil

from trainer.contract.errors import AppError
from trainer.contract.events import EventWriter

HEARTBEAT_S = 5.0
WINDOW_STEPS = 30
# The first steps compile, allocate and warm caches; an estimate from them is wrong.
STEPS_BEFORE_ESTIMATE = 10


class Heartbeat:
    """Writes `heartbeat` every 5 s from a thread, also while the loop is busy."""

    def __init__(self, events: EventWriter) -> None:
        self._events = events
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        process = psutil.Process()
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(AppError):  # a full disk is told by the loop's next event
                self._events.write("heartbeat", rss_bytes=process.memory_info().rss)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Speed:
    """Step times of this process, over the last steps.

    Args:
        expected_s: of a step, as was estimated before; the time that is left is told by it at first.
    """

    def __init__(self, expected_s: float | None = None) -> None:
        self._expected_s = expected_s
        self._recent: deque[tuple[float, int]] = deque(maxlen=WINDOW_STEPS)
        self._steps = 0
        self._started_s = time.monotonic()

    def start(self) -> None:
        """Call before a step; pauses, saves and evaluations between steps do not count."""
        self._started_s = time.monotonic()

    def finish(self, tokens: int) -> float:
        """Record a step that has just ended; returns its seconds."""
        step_s = time.monotonic() - self._started_s
        self._recent.append((step_s, tokens))
        self._steps += 1
        return step_s

    @property
    def tok_s(self) -> float:
        seconds = sum(s for s, _ in self._recent)
        return sum(n for _, n in self._recent) / seconds if seconds else 0.0

    @property
    def just_measured(self) -> bool:
        """Whether with this step the speed has become known."""
        return self._steps == STEPS_BEFORE_ESTIMATE

    @property
    def step_s(self) -> float | None:
        """Seconds of a step: measured, or else expected."""
        if self._steps < STEPS_BEFORE_ESTIMATE:
            return self._expected_s
        return sum(s for s, _ in self._recent) / len(self._recent)

    def eta_s(self, steps_left: int) -> float | None:
        return None if self.step_s is None else steps_left * self.step_s

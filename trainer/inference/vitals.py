"""What a server tells of itself: how far loading is, what memory the model takes, how fast it speaks."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from trainer.contract.errors import AppError
from trainer.contract.events import EventWriter

_TELL_EVERY_S = 0.5
_WINDOW_S = 5.0
_ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


def memory_bytes(device: str) -> int:
    """Memory that this process holds: of the GPU where the model is on one, else of the computer."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_allocated())
    return int(psutil.Process().memory_info().rss)


@contextmanager
def told_loading(events: EventWriter, model: Path, device: str, precision: str) -> Iterator[None]:
    """Write `progress` events while a model loads.

    How far it is shows in the memory that has come to be held: whoever reads the file need not know of this.
    """
    from trainer.models.checkpoint import open_checkpoint

    infos = open_checkpoint(model).infos.values()
    total = sum(math.prod(info.shape) for info in infos) * _ITEM_BYTES[precision]
    before = memory_bytes(device)
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_TELL_EVERY_S):
            here = min(max(0, memory_bytes(device) - before), total)
            with suppress(AppError):  # the next event of the server tells of a full disk
                events.write("progress", what="loading_model", done=here, total=total, unit="bytes")

    thread = threading.Thread(target=tell, name="loading", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class TokenSpeed:
    """Tokens a second over the last five seconds, of all answers together; from any thread.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times_s: deque[float] = deque()
        self._lock = threading.Lock()

    def note(self) -> None:
        """One token has been drawn."""
        with self._lock:
            now = self._clock()
            self._times_s.append(now)
            self._forget(now)

    @property
    def tok_s(self) -> float:
        """0.0 while nothing is said."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            if len(self._times_s) < 2:
                return 0.0
            return len(self._times_s) / max(now - self._times_s[0], 1e-3)

    def _forget(self, now: float) -> None:
        while self._times_s and now - self._times_s[0] > _WINDOW_S:
            self._times_s.popleft()

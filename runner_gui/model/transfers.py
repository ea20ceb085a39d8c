"""Downloads as data: which there are, how far they are, how fast, and the file that remembers them."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner_gui.model.problems import AnyProblem
from trainer.contract.files import write_json

LOG = logging.getLogger(__name__)
RATE_WINDOW_S = 8.0

State = Literal["queued", "running", "checking", "pausing", "paused", "failed"]
# These are taken up again by the next window, as if nothing had happened.
GOES_ON = ("queued", "running", "checking")


@dataclass(frozen=True, slots=True)
class Transfer:
    """One download that is not finished.

    Attributes:
        folder: where the file is to lie.
        done_bytes, total_bytes: None for what is not known.
        bytes_s, eta_s: while it runs and they can be told.
        problem: why it failed.
    """

    name: str
    folder: Path
    state: State = "queued"
    done_bytes: int = 0
    total_bytes: int | None = None
    bytes_s: float | None = None
    eta_s: float | None = None
    problem: AnyProblem | None = None

    @property
    def target(self) -> Path:
        return self.folder / self.name

    @property
    def is_active(self) -> bool:
        """Whether a thread works at it."""
        return self.state in ("running", "checking", "pausing")


class Rate:
    """Bytes a second over the last seconds: what came long ago says nothing of when it will be done."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now_s: float, done_bytes: int) -> float | None:
        """Take a sample; the rate, once two samples lie far enough apart."""
        if self._samples and done_bytes < self._samples[-1][1]:
            self._samples.clear()  # it began anew
        self._samples.append((now_s, done_bytes))
        while len(self._samples) > 2 and now_s - self._samples[1][0] >= RATE_WINDOW_S:
            self._samples.popleft()
        first_s, first_bytes = self._samples[0]
        if now_s - first_s < 1.0:
            return None
        return (done_bytes - first_bytes) / (now_s - first_s)


def eta_s(done_bytes: int, total_bytes: int | None, bytes_s: float | None) -> float | None:
    """Seconds that are left, where that can be told."""
    if total_bytes is None or not bytes_s:
        return None
    return max(0, total_bytes - done_bytes) / bytes_s


class _Entry(BaseModel):
    name: str
    folder: Path
    paused: bool = False


class Remembered(BaseModel):
    """What is kept between windows: unfinished downloads, in their order, and the preferred server."""

    model_config = ConfigDict(extra="ignore")

    version: Literal[1] = 1
    preferred: str = ""
    transfers: list[_Entry] = Field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Remembered:
        """What a file remembers; nothing, where it cannot be read."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            LOG.warning("the downloads in %s are forgotten: %s", path, error)
            return cls()

    @classmethod
    def of(cls, preferred: str, transfers: list[Transfer]) -> Remembered:
        entries = [_Entry(name=t.name, folder=t.folder, paused=t.state not in GOES_ON) for t in transfers]
        return cls(preferred=preferred, transfers=entries)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            AppError: `not_writable` or `disk_full`.
        """
        write_json(path, self.model_dump(mode="json"))

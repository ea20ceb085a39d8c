"""One thread that owns the model and serves several answers in turn, a token each."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.inference.embedding import Embedding
from trainer.inference.engine import Engine
from trainer.inference.generation import FinishReason, Generation, Piece, Vocabulary
from trainer.inference.prefix_cache import PrefixCache
from trainer.inference.sampling import SamplingParams
from trainer.inference.vitals import TokenSpeed

_LOG = logging.getLogger(__name__)


class BusyError(Exception):
    """Too many requests wait already."""


class Work(Protocol):
    """Something that the model does, step by step."""

    finish_reason: FinishReason | None

    @property
    def reading(self) -> bool:
        """Whether a prompt is not read to its end yet."""
        ...

    def step(self) -> Any:
        """Do one unit of bounded work; what came of it, or None."""
        ...

    def cancel(self) -> Any:
        """End it; the last thing that comes of it."""
        ...


class Request(Protocol):
    """What is to be done."""

    @property
    def tokens(self) -> Sequence[int]: ...

    def begin(self, engine: Engine, tokenizer: Vocabulary, cache: PrefixCache) -> Work: ...


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A prompt to be answered; what comes of it are pieces."""

    tokens: Sequence[int]
    params: SamplingParams
    boundaries: Sequence[int] = ()

    def begin(self, engine: Engine, tokenizer: Vocabulary, cache: PrefixCache) -> Generation:
        return Generation(
            engine, tokenizer, self.tokens, self.params, cache=cache, boundaries=self.boundaries
        )


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A text to be made a vector of; what comes of it is one `Embedded`."""

    tokens: Sequence[int]

    def begin(self, engine: Engine, tokenizer: Vocabulary, cache: PrefixCache) -> Embedding:
        return Embedding(engine, self.tokens)


class Job:
    """A request on its way. `emit` is called in the model's thread, with what comes of it or an exception.

    Attributes:
        work: set when the job has got a slot.
    """

    def __init__(self, request: Request, emit: Callable[[Any], None]) -> None:
        self.request = request
        self.emit = emit
        self.work: Work | None = None
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Free the slot at the next token; harmless when the job is done."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()


class Scheduler:
    """Runs jobs: up to `slots` take turns, the others wait in order.

    Only one prompt is read at a time, between the other answers' tokens: so the copies of one request
    (`n`) find the first one's prompt in the cache instead of reading it again.

    Args:
        engine: used in the scheduler's thread only.
        tokenizer: for the answers.
        slots: answers that grow at the same time.
        max_waiting: jobs that may wait for a slot.
        cache: None for one of the default size.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Vocabulary,
        *,
        slots: int = 8,
        max_waiting: int = 256,
        cache: PrefixCache | None = None,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._slots = slots
        self._max_waiting = max_waiting
        self._cache = PrefixCache() if cache is None else cache
        self._speed = TokenSpeed()
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._active: deque[Job] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def active(self) -> int:
        """Answers that have a slot."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """Requests without a slot yet."""
        return len(self._waiting)

    @property
    def tok_s(self) -> float:
        """Tokens a second of all answers, lately."""
        return self._speed.tok_s

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs of one request.

        Raises:
            BusyError: they do not fit into the queue.
        """
        with self._changed:
            if self._closing or len(self._waiting) + len(jobs) > self._max_waiting:
                raise BusyError
            self._waiting.extend(jobs)
            self._changed.notify()

    def close(self, timeout_s: float = 30.0) -> None:
        """End all answers as cancelled and the thread with them."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            if self._advance(job):
                self._active.remove(job)
        for job in (*self._active, *self._waiting):
            job.emit(Piece("", finish_reason="cancelled"))

    def _next(self) -> Job | None:
        """The job whose turn it is, put at the end of the line; waits for one. None: time to end."""
        with self._changed:
            while not self._closing:
                while self._waiting and len(self._active) < self._slots:
                    self._active.append(self._waiting.popleft())
                reader = next((job for job in self._active if _reads(job)), None)
                for _ in range(len(self._active)):
                    job = self._active[0]
                    self._active.rotate(-1)
                    if job is reader or not _reads(job):
                        return job
                self._changed.wait()
        return None

    def _advance(self, job: Job) -> bool:
        """Do one step of a job; whether it is done."""
        try:
            if job.work is None:
                if job.cancelled:
                    job.emit(Piece("", finish_reason="cancelled"))
                    return True
                job.work = job.request.begin(self._engine, self._tokenizer, self._cache)
            reads = _reads(job)
            done = job.work.cancel() if job.cancelled else job.work.step()
            if not reads:
                self._speed.note()
        except Exception as error:  # noqa: BLE001 - the thread's edge
            # The request gets the error, the others go on.
            _LOG.exception("an answer failed")
            job.emit(error)
            return True
        if done is not None:
            job.emit(done)
        return job.work.finish_reason is not None


def _reads(job: Job) -> bool:
    """Whether the job has (a part of) its prompt to read, and is not about to end."""
    return not job.cancelled and (job.work is None or job.work.reading)

"""The answers to one request: choices that grow in the model's thread and are sent from the event loop."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from trainer.contract.errors import AppError
from trainer.inference.answers import Answer
from trainer.inference.api_types import ApiError, usage
from trainer.inference.scheduler import Job, Request


class Outcomes:
    """What comes of several jobs, as (number, piece) until each has ended; leaving early frees their slots.

    Args:
        requests: one for each job.

    Raises:
        ApiError: while iterating; a job failed.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self.jobs = [Job(request, self._emitter(index)) for index, request in enumerate(requests)]

    def _emitter(self, index: int) -> Any:
        def emit(item: Any) -> None:
            # A loop that is closed has no one left to read the answer.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, item))

        return emit

    async def __aiter__(self) -> AsyncIterator[tuple[int, Any]]:
        left = len(self.jobs)
        try:
            while left:
                index, item = await self._queue.get()
                if isinstance(item, Exception):
                    raise _server_error(item)
                yield index, item
                left -= item.finish_reason is not None
        finally:
            self.cancel()

    def cancel(self) -> None:
        for job in self.jobs:
            job.cancel()


class Exchange:
    """Choices of /v1/chat/completions or /v1/completions on their way.

    Args:
        requests, answers: one of each for every choice.
        model: its name, for the client.
    """

    def __init__(self, requests: Sequence[Request], answers: Sequence[Answer], model: str) -> None:
        self._outcomes = Outcomes(requests)
        self.jobs = self._outcomes.jobs
        self._answers = answers
        self._model = model
        self._id = f"{'chatcmpl' if answers[0].object_name.startswith('chat') else 'cmpl'}-{uuid.uuid4().hex}"
        self._created_s = int(time.time())

    def cancel(self) -> None:
        self._outcomes.cancel()

    async def whole(self) -> dict[str, Any]:
        """The response that is not streamed."""
        async for index, piece in self._outcomes:
            self._answers[index].add(piece)
        choices = [{"index": index, **answer.choice()} for index, answer in enumerate(self._answers)]
        return {**self._head(self._answers[0].object_name), "choices": choices, "usage": self._usage()}

    async def chunks(self, *, include_usage: bool) -> AsyncIterator[dict[str, str]]:
        """The streamed response, as server-sent events."""
        extra: dict[str, Any] = {"usage": None} if include_usage else {}
        head = self._head(self._answers[0].chunk_name)

        def event(index: int, chunk: dict[str, Any]) -> dict[str, str]:
            return _event({**head, "choices": [{"index": index, **chunk}], **extra})

        try:
            for index, answer in enumerate(self._answers):
                if (opening := answer.opening()) is not None:
                    yield event(index, opening)
            async for index, piece in self._outcomes:
                for chunk in self._answers[index].add(piece):
                    yield event(index, chunk)
            if include_usage:
                yield _event({**head, "choices": [], "usage": self._usage()})
        except ApiError as error:
            yield _event(error.body)
        finally:
            self.cancel()
        yield {"data": "[DONE]"}

    def _head(self, name: str) -> dict[str, Any]:
        return {"id": self._id, "object": name, "created": self._created_s, "model": self._model}

    def _usage(self) -> dict[str, Any]:
        done: list[Any] = [job.work for job in self.jobs if job.work is not None]
        prompts = {id(job.request.tokens): len(job.request.tokens) for job in self.jobs}
        return usage(
            sum(prompts.values()),
            sum(generation.completion_tokens for generation in done),
            done[0].cached_tokens if done else 0,
        )


def _event(value: dict[str, Any]) -> dict[str, str]:
    return {"data": json.dumps(value, ensure_ascii=False, allow_nan=False)}


def _server_error(error: Exception) -> ApiError:
    if isinstance(error, MemoryError):
        error = AppError("oom_ram")
    elif type(error).__name__ == "OutOfMemoryError":  # torch's, whose import this module does not need
        error = AppError("oom_vram")
    if isinstance(error, AppError):
        return ApiError(500, str(error), kind="server_error", code=error.code)
    return ApiError(500, f"{type(error).__name__}: {error}", kind="server_error", code="internal")

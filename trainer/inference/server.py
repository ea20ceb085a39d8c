"""The HTTP side: an OpenAI-compatible API over one model.

Bound to the loopback address unless the person chose another; there, requests that name another host are
refused, so that a web page cannot reach the server through a name of its own (DNS rebinding), and no CORS
header invites any page in.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sse_starlette.sse import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.types import Message as AsgiMessage

from trainer.contract.errors import AppError
from trainer.inference import scheduler as scheduling
from trainer.inference.answers import Answer, ChatAnswer, TextAnswer
from trainer.inference.api_types import (
    ApiError,
    ChatRequest,
    CompletionRequest,
    SamplingRequest,
    usage,
)
from trainer.inference.chat import CHAT_STOP, render, token_boundaries
from trainer.inference.generation import Piece, Vocabulary
from trainer.inference.scheduler import Job, Scheduler

_LOOPBACK_NAMES = {"127.0.0.1", "localhost", "[::1]"}


@dataclass(frozen=True, slots=True)
class Served:
    """The model that is served, as clients see it."""

    name: str
    generation: str
    device: str
    vocab_size: int
    created_s: int


class Exchange:
    """The answers to one request: choices that grow in the model's thread and are read in the event loop."""

    def __init__(
        self, requests: Sequence[scheduling.Request], answers: Sequence[Answer], served: Served
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Piece | Exception]] = asyncio.Queue()
        self._answers = answers
        self._served = served
        self._id = f"{'chatcmpl' if answers[0].object_name.startswith('chat') else 'cmpl'}-{uuid.uuid4().hex}"
        self._created_s = int(time.time())
        self.jobs = [Job(request, self._emitter(index)) for index, request in enumerate(requests)]

    def _emitter(self, index: int) -> Any:
        def emit(item: Piece | Exception) -> None:
            # A loop that is closed has no one left to read the answer.
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, item))

        return emit

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
        """(choice, piece) until every choice has ended; leaving early frees their slots.

        Raises:
            ApiError: a choice failed.
        """
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

    async def whole(self) -> dict[str, Any]:
        """The response that is not streamed."""
        async for index, piece in self.pieces():
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
            async for index, piece in self.pieces():
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
        return {"id": self._id, "object": name, "created": self._created_s, "model": self._served.name}

    def _usage(self) -> dict[str, Any]:
        done = [job.generation for job in self.jobs if job.generation is not None]
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


class Api:
    """The routes' work.

    Args:
        served: what is served.
        tokenizer: of the model.
        scheduler: owns the model.
        api_key: what clients must send as a bearer token, or None.
        loopback_only: whether requests that name another host are refused.
    """

    def __init__(
        self,
        served: Served,
        tokenizer: Vocabulary,
        scheduler: Scheduler,
        *,
        api_key: str | None = None,
        loopback_only: bool = True,
    ) -> None:
        self._served = served
        self._tokenizer = tokenizer
        self._scheduler = scheduler
        self._api_key = api_key
        self._loopback_only = loopback_only

    async def admit(self, request: Request) -> None:
        """Refuse who may not ask.

        Raises:
            ApiError: 403 for a foreign host name, 401 without the key.
        """
        host = request.headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._loopback_only and name.lower() not in _LOOPBACK_NAMES:
            raise ApiError(403, "this server answers on the loopback address only", code="forbidden_host")
        if self._api_key is None:
            return
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            key.encode("latin-1"), self._api_key.encode()
        ):
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [self._card()]}

    def model(self, name: str) -> dict[str, Any]:
        if name != self._served.name:
            raise ApiError(404, f"The model {name!r} does not exist.", param="model", code="model_not_found")
        return self._card()

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "model": self._served.name,
            "generation": self._served.generation,
            "device": self._served.device,
            "active": self._scheduler.active,
            "waiting": self._scheduler.waiting,
        }

    async def chat(self, body: ChatRequest, request: Request) -> Any:
        prompt = render([message.message() for message in body.messages])
        tokens = self._checked(prompt.encode(self._tokenizer), "messages")
        boundaries = token_boundaries(self._tokenizer, tokens, prompt.turn_ends_bytes)
        top = (body.top_logprobs or 0) if body.logprobs else 0
        requests = [
            scheduling.Request(tokens, body.sampling(choice, CHAT_STOP, top), boundaries)
            for choice in range(body.n)
        ]
        answers = [ChatAnswer(self._tokenizer, body.logprobs) for _ in requests]
        return await self._answer(body, request, requests, answers)

    async def complete(self, body: CompletionRequest, request: Request) -> Any:
        prompts = [p if isinstance(p, list) else self._tokenizer.encode(p) for p in body.prompts()]
        requests = [
            scheduling.Request(tokens, body.sampling(choice, (), body.logprobs or 0))
            for tokens in (self._checked(prompt, "prompt") for prompt in prompts)
            for choice in range(body.n)
        ]
        answers = [TextAnswer(self._tokenizer, body.logprobs is not None) for _ in requests]
        return await self._answer(body, request, requests, answers)

    def _checked(self, tokens: list[int], param: str) -> list[int]:
        for token in tokens:
            if not 0 <= token < self._served.vocab_size:
                message = f"token {token} is outside the model's vocabulary of {self._served.vocab_size}"
                raise ApiError(400, message, param=param, code="token_beyond_vocab")
        return tokens

    async def _answer(
        self,
        body: SamplingRequest,
        request: Request,
        requests: Sequence[scheduling.Request],
        answers: Sequence[Answer],
    ) -> Any:
        exchange = Exchange(requests, answers, self._served)
        try:
            self._scheduler.submit(exchange.jobs)
        except scheduling.BusyError as error:
            message = "Too many requests are waiting for the model."
            raise ApiError(429, message, kind="rate_limit_error", code="rate_limit_exceeded") from error
        if body.stream:
            include_usage = body.stream_options is not None and body.stream_options.include_usage
            return EventSourceResponse(exchange.chunks(include_usage=include_usage), sep="\n")
        return await _unless_disconnected(request, exchange)

    def _card(self) -> dict[str, Any]:
        return {
            "id": self._served.name,
            "object": "model",
            "created": self._served.created_s,
            "owned_by": "local",
        }


async def _unless_disconnected(request: Request, exchange: Exchange) -> dict[str, Any]:
    """The whole response, given up as soon as the client is gone."""

    async def gone() -> AsgiMessage:
        # The body was read, so the next message that matters is the end of the connection.
        while (message := await request.receive())["type"] != "http.disconnect":
            pass
        return message

    answering = asyncio.ensure_future(exchange.whole())
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ApiError(499, "the client closed the connection", code="client_closed")
        return answering.result()
    finally:
        exchange.cancel()
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


def create_app(api: Api) -> FastAPI:
    """The application; its paths are those of OpenAI's API, and /health."""
    app = FastAPI(title="RWKV LoRA Runner", docs_url=None, redoc_url=None, dependencies=[Depends(api.admit)])
    app.get("/v1/models")(api.models)
    app.get("/v1/models/{name:path}")(api.model)
    app.get("/health")(api.health)
    app.post("/v1/chat/completions", response_model=None)(api.chat)
    app.post("/v1/completions", response_model=None)(api.complete)

    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        message = f"{place}: {first['msg']}" if place else first["msg"]
        return await refuse(_, ApiError(400, message, param=place or None, code="invalid_value"))

    @app.exception_handler(HTTPException)
    async def not_served(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        return await refuse(_, ApiError(error.status_code, str(error.detail), code=code))

    return app

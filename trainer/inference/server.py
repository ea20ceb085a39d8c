"""The HTTP side: an OpenAI-compatible API over one model.

Bound to the loopback address unless the person chose another; there, requests that name another host are
refused, so that a web page cannot reach the server through a name of its own (DNS rebinding), and no CORS
header invites any page in.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sse_starlette.sse import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.types import Message as AsgiMessage

from trainer.data.tools import FENCE, FENCE_END
from trainer.inference.answers import Answer, ChatAnswer, TextAnswer
from trainer.inference.api_types import (
    ApiError,
    ChatRequest,
    CompletionRequest,
    EmbeddingsRequest,
    SamplingRequest,
)
from trainer.inference.chat import CHAT_STOP, is_unfinished, render, token_boundaries
from trainer.inference.embedding import Embedded
from trainer.inference.exchange import Exchange, Outcomes
from trainer.inference.generation import Vocabulary
from trainer.inference.scheduler import AnswerRequest, BusyError, EmbeddingRequest, Scheduler
from trainer.inference.tool_calls import ToolCallStream
from trainer.inference.vitals import memory_bytes

_LOOPBACK_NAMES = {"127.0.0.1", "localhost", "[::1]"}


@dataclass(frozen=True, slots=True)
class Served:
    """The model that is served, as clients see it."""

    name: str
    generation: str
    device: str
    vocab_size: int
    created_s: int


class Api:
    """The routes' work.

    Args:
        served: what is served.
        tokenizer: of the model.
        scheduler: owns the model.
        api_key: what clients must send as a bearer token, or None.
        loopback_only: whether requests that name another host are refused.
        defaults: sampling of requests that leave it open.
    """

    def __init__(
        self,
        served: Served,
        tokenizer: Vocabulary,
        scheduler: Scheduler,
        *,
        api_key: str | None = None,
        loopback_only: bool = True,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._served = served
        self._tokenizer = tokenizer
        self._scheduler = scheduler
        self._api_key = api_key
        self._loopback_only = loopback_only
        self._defaults = defaults or {}

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
            "memory_bytes": memory_bytes(self._served.device),
            "tok_s": round(self._scheduler.tok_s, 1),
        }

    async def chat(self, body: ChatRequest, request: Request) -> Any:
        body = body.or_else(self._defaults)
        messages = body.conversation()
        goes_on = is_unfinished(messages)
        begun = None if goes_on else body.begun_call()
        prompt = render(messages, "" if begun is None else f" {FENCE}{begun}")
        tokens = self._checked(prompt.encode(self._tokenizer), "messages")
        boundaries = token_boundaries(self._tokenizer, tokens, prompt.turn_ends_bytes)
        top = (body.top_logprobs or 0) if body.logprobs else 0
        stop = CHAT_STOP if begun is None else (*CHAT_STOP, FENCE_END)
        requests = [
            AnswerRequest(tokens, body.sampling(choice, stop, top), boundaries) for choice in range(body.n)
        ]
        names = body.function_names()
        answers = [
            ChatAnswer(
                self._tokenizer,
                body.logprobs,
                ToolCallStream(names, begun) if names else None,
                goes_on,
            )
            for _ in requests
        ]
        return await self._answer(body, request, requests, answers)

    async def complete(self, body: CompletionRequest, request: Request) -> Any:
        body = body.or_else(self._defaults)
        requests = [
            AnswerRequest(tokens, body.sampling(choice, (), body.logprobs or 0))
            for tokens in (self._tokens(text, "prompt") for text in body.prompts())
            for choice in range(body.n)
        ]
        answers = [TextAnswer(self._tokenizer, body.logprobs is not None) for _ in requests]
        return await self._answer(body, request, requests, answers)

    async def embed(self, body: EmbeddingsRequest, request: Request) -> Any:
        requests = [EmbeddingRequest(self._tokens(text, "input")) for text in body.texts()]
        return await _unless_disconnected(request, self._embeddings(body, requests))

    async def _embeddings(self, body: EmbeddingsRequest, requests: Sequence[EmbeddingRequest]) -> Any:
        data: list[dict[str, Any]] = []
        for number, wanted in enumerate(requests):
            outcomes = Outcomes([wanted])
            self._submit(outcomes)
            async for _, done in outcomes:
                if not isinstance(done, Embedded) or done.vector is None:
                    raise ApiError(503, "the server is ending", kind="server_error", code="server_ending")
                if body.dimensions not in (None, done.vector.size):
                    message = f"this model's vectors have {done.vector.size} dimensions"
                    raise ApiError(400, message, param="dimensions", code="invalid_value")
                vector = done.vector.astype("<f4")
                data.append(
                    {
                        "object": "embedding",
                        "index": number,
                        "embedding": base64.b64encode(vector.tobytes()).decode()
                        if body.encoding_format == "base64"
                        else vector.tolist(),
                    }
                )
        count = sum(len(wanted.tokens) for wanted in requests)
        return {
            "object": "list",
            "data": data,
            "model": self._served.name,
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def _tokens(self, text: str | list[int], param: str) -> list[int]:
        return self._checked(text if isinstance(text, list) else self._tokenizer.encode(text), param)

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
        requests: Sequence[AnswerRequest],
        answers: Sequence[Answer],
    ) -> Any:
        exchange = Exchange(requests, answers, self._served.name)
        self._submit(exchange)
        if body.stream:
            include_usage = body.stream_options is not None and body.stream_options.include_usage
            return EventSourceResponse(exchange.chunks(include_usage=include_usage), sep="\n")
        return await _unless_disconnected(request, exchange.whole())

    def _submit(self, work: Exchange | Outcomes) -> None:
        try:
            self._scheduler.submit(work.jobs)
        except BusyError as error:
            message = "Too many requests are waiting for the model."
            raise ApiError(429, message, kind="rate_limit_error", code="rate_limit_exceeded") from error

    def _card(self) -> dict[str, Any]:
        return {
            "id": self._served.name,
            "object": "model",
            "created": self._served.created_s,
            "owned_by": "local",
        }


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The whole response, given up as soon as the client is gone, which frees its slots."""

    async def gone() -> AsgiMessage:
        # The body was read, so the next message that matters is the end of the connection.
        while (message := await request.receive())["type"] != "http.disconnect":
            pass
        return message

    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(gone())
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ApiError(499, "the client closed the connection", code="client_closed")
        return answering.result()
    finally:
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


def create_app(api: Api) -> FastAPI:
    """The application; its paths are those of OpenAI's API, and /health."""
    app = FastAPI(title="RWKV LoRA Runner", docs_url=None, redoc_url=None, dependencies=[Depends(api.admit)])
    for root in ("/v1", ""):  # some clients are given an address without the version
        app.get(f"{root}/models")(api.models)
        app.get(f"{root}/models/{{name:path}}")(api.model)
        app.post(f"{root}/chat/completions", response_model=None)(api.chat)
        app.post(f"{root}/completions", response_model=None)(api.complete)
        app.post(f"{root}/embeddings", response_model=None)(api.embed)
    app.get("/health")(api.health)

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

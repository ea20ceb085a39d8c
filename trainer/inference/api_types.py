"""What clients of the OpenAI protocol send, and the objects that they get back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trainer.data.tools import call_block, with_tools
from trainer.inference.chat import Message
from trainer.inference.generation import FinishReason
from trainer.inference.sampling import SamplingParams

MAX_TOKENS = 2**20
DEFAULT_MAX_TOKENS = 512
RequestT = TypeVar("RequestT", bound="SamplingRequest")
StopText = Annotated[str, Field(min_length=1)]
# What a server may have defaults of its own for.
SAMPLED = (
    "max_tokens", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "penalty_decay",
)  # fmt: skip


class ApiError(Exception):
    """A refusal in the shape that OpenAI's clients read."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class StreamOptions(BaseModel):
    include_usage: bool = False


class SamplingRequest(BaseModel):
    """The fields that both kinds of request share. Unknown ones are ignored, as other servers do."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(1, ge=1, le=128)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(None, ge=0, le=5)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    penalty_decay: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    stop: StopText | list[StopText] | None = None
    stop_token_ids: list[int] = Field(default_factory=list, max_length=64)
    logit_bias: dict[int, float] | None = None
    user: str | None = None

    @field_validator("logit_bias")
    @classmethod
    def _bias_in_range(cls, value: dict[int, float] | None) -> dict[int, float] | None:
        if any(not -100 <= bias <= 100 for bias in (value or {}).values()):
            raise ValueError("values lie between -100 and 100")
        return value

    def or_else(self: RequestT, defaults: Mapping[str, Any]) -> RequestT:
        """The same request with what it leaves open taken from `defaults`."""
        return self.model_copy(
            update={name: value for name, value in defaults.items() if getattr(self, name) is None}
        )

    def limit(self) -> int:
        return self.max_tokens or DEFAULT_MAX_TOKENS

    def sampling(self, choice: int, stop: tuple[str, ...], top_logprobs: int) -> SamplingParams:
        """How choice number `choice` of `n` is sampled; each has a seed of its own."""
        own = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        given = {
            name: value
            for name in SAMPLED
            if name != "max_tokens" and (value := getattr(self, name)) is not None
        }
        return SamplingParams(
            max_tokens=self.limit(),
            seed=None if self.seed is None else (self.seed + choice) % 2**64,
            stop=(*own, *stop),
            stop_tokens=(0, *self.stop_token_ids),
            logit_bias=self.logit_bias or {},
            top_logprobs=top_logprobs,
            **given,
        )


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class CalledFunction(BaseModel):
    name: str
    arguments: str = "{}"


class MessageCall(BaseModel):
    """A call that an earlier answer made."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(BaseModel):
    """One message; `developer` is what newer clients call `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[MessageCall] | None = None

    def message(self) -> Message:
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        if self.tool_calls:
            calls = [
                {"name": call.function.name, "arguments": _value(call.function.arguments)}
                for call in self.tool_calls
            ]
            text = f"{text}\n{call_block(calls)}"
        return Message("system" if self.role == "developer" else self.role, text)


def _value(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


class Function(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=64)


class Tool(BaseModel):
    """A function that may be called; its description is the model's to read."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: Function


class FunctionName(BaseModel):
    name: str


class NamedTool(BaseModel):
    type: Literal["function"]
    function: FunctionName


class ChatRequest(SamplingRequest):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    response_format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _only_what_can_be_done(self) -> ChatRequest:
        if self.response_format and self.response_format.get("type") != "text":
            raise ValueError("response_format can only be text")
        choice = self.tool_choice
        if isinstance(choice, NamedTool) and choice.function.name not in self.function_names():
            raise ValueError(f"tool_choice names {choice.function.name!r}, which is not in tools")
        if choice == "required" and not self.tools:
            raise ValueError("tool_choice is required, but there are no tools")
        return self

    def limit(self) -> int:
        return self.max_completion_tokens or super().limit()

    def function_names(self) -> frozenset[str]:
        """Functions that the answer may call."""
        if self.tool_choice == "none":
            return frozenset()
        return frozenset(tool.function.name for tool in self.tools or ())

    def conversation(self) -> list[Message]:
        """The messages, with the functions that may be called."""
        tools = [tool.model_dump() for tool in self.tools or ()] if self.function_names() else None
        return with_tools([message.message() for message in self.messages], tools)

    def begun_call(self) -> str | None:
        """What of a call the answer has to begin with behind its fence; None where it is free."""
        if isinstance(self.tool_choice, NamedTool):
            return f'\n{{"name": {json.dumps(self.tool_choice.function.name)}, "arguments":'
        return "" if self.tool_choice == "required" else None


class CompletionRequest(SamplingRequest):
    """POST /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    suffix: str | None = None
    best_of: int | None = None

    @model_validator(mode="after")
    def _only_what_can_be_done(self) -> CompletionRequest:
        if self.echo or self.suffix or (self.best_of or 1) > self.n:
            raise ValueError("echo, suffix and best_of are not supported by this server")
        if not isinstance(self.prompt, str) and not self.prompt:
            raise ValueError("the list of prompts is empty")
        return self

    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or as tokens."""
        return _texts(self.prompt)


class EmbeddingsRequest(BaseModel):
    """POST /v1/embeddings."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @model_validator(mode="after")
    def _has_text(self) -> EmbeddingsRequest:
        if not self.input or (isinstance(self.input, list) and any(text in ("", []) for text in self.input)):
            raise ValueError("input has an empty text")
        return self

    def texts(self) -> list[str | list[int]]:
        """Each text, as text or as tokens."""
        return _texts(self.input)


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(given, str):
        return [given]
    if all(isinstance(item, int) for item in given):
        return [[int(item) for item in given if isinstance(item, int)]]
    return [item for item in given if not isinstance(item, int)]


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """The count of tokens that ends a response."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def api_reason(reason: FinishReason | None) -> str | None:
    """The protocol has no word for an answer that the server cancelled; it was cut short."""
    return "length" if reason == "cancelled" else reason


def sampling_defaults(text: str) -> dict[str, Any]:
    """Read a server's own defaults, a JSON object of fields of `SAMPLED`.

    Raises:
        ValueError: it is something else, or a value lies outside its bounds.
    """
    given = json.loads(text)
    if not isinstance(given, dict) or not given.keys() <= set(SAMPLED):
        raise ValueError(f"an object with some of {', '.join(SAMPLED)}")
    return SamplingRequest.model_validate(given).model_dump(include=set(given), exclude_none=True)

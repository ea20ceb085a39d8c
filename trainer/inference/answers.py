"""The shapes of answers: how pieces become choices and chunks of chat and of plain completion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainer.inference.api_types import api_reason
from trainer.inference.generation import FinishReason, Piece, Vocabulary
from trainer.inference.text_stream import TrimmedStream
from trainer.inference.tool_calls import ToolCall, ToolCallStream


class Answer(Protocol):
    """One choice as it grows."""

    object_name: str
    chunk_name: str
    finish_reason: FinishReason | None

    def opening(self) -> dict[str, Any] | None:
        """What a stream begins with, if anything."""
        ...

    def add(self, piece: Piece) -> list[dict[str, Any]]:
        """Take a piece in; the stream's chunks that it makes (without their index)."""
        ...

    def choice(self) -> dict[str, Any]:
        """The whole choice (without its index)."""
        ...


@dataclass
class ChatAnswer:
    """A choice of /v1/chat/completions: white space around it belongs to the template, not to the answer.

    Attributes:
        tools: takes the calls out of the answer.
        goes_on: with an answer that was begun, so white space in front is its own.
    """

    tokenizer: Vocabulary
    wants_logprobs: bool
    tools: ToolCallStream | None = None
    goes_on: bool = False
    object_name: str = "chat.completion"
    chunk_name: str = "chat.completion.chunk"
    finish_reason: FinishReason | None = None
    _text: str = ""
    _logprobs: list[dict[str, Any]] = field(default_factory=list)
    _calls: list[ToolCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._trim = TrimmedStream(begun=self.goes_on)

    def opening(self) -> dict[str, Any]:
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def add(self, piece: Piece) -> list[dict[str, Any]]:
        text, calls = self._words(piece)
        text = self._trim.push(text)
        self._text += text
        logprobs = self._entries(piece)
        self._logprobs += logprobs
        self.finish_reason = piece.finish_reason
        chunks: list[dict[str, Any]] = []
        if text or logprobs:
            found = {"content": logprobs} if self.wants_logprobs else None
            chunks.append({"delta": {"content": text}, "logprobs": found, "finish_reason": None})
        for call in calls:
            delta = {"tool_calls": [{"index": len(self._calls), **call.as_json()}]}
            self._calls.append(call)
            chunks.append({"delta": delta, "logprobs": None, "finish_reason": None})
        if piece.finish_reason is not None:
            chunks.append({"delta": {}, "logprobs": None, "finish_reason": self._reason()})
        return chunks

    def choice(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text, "refusal": None}
        if self._calls:
            message["content"] = self._text or None
            message["tool_calls"] = [call.as_json() for call in self._calls]
        return {
            "message": message,
            "logprobs": {"content": self._logprobs} if self.wants_logprobs else None,
            "finish_reason": self._reason(),
        }

    def _words(self, piece: Piece) -> tuple[str, list[ToolCall]]:
        if self.tools is None:
            return piece.text, []
        text, calls = self.tools.push(piece.text)
        if piece.finish_reason is None:
            return text, calls
        rest, last = self.tools.finish(whole=piece.finish_reason == "stop")
        return text + rest, calls + last

    def _reason(self) -> str | None:
        return (
            "tool_calls" if self._calls and self.finish_reason == "stop" else api_reason(self.finish_reason)
        )

    def _entries(self, piece: Piece) -> list[dict[str, Any]]:
        if not self.wants_logprobs or piece.token is None:
            return []
        top = [self._entry(item.token, item.logprob) for item in piece.top]
        return [{**self._entry(piece.token, piece.logprob), "top_logprobs": top}]

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        data = self.tokenizer.decode_bytes([token])
        return {"token": token_text(data), "logprob": logprob, "bytes": list(data)}


@dataclass
class TextAnswer:
    """A choice of /v1/completions: the text as it comes."""

    tokenizer: Vocabulary
    wants_logprobs: bool
    object_name: str = "text_completion"
    chunk_name: str = "text_completion"
    finish_reason: FinishReason | None = None
    _text: str = ""
    _pieces: list[tuple[int, Piece]] = field(default_factory=list)

    def opening(self) -> None:
        return None

    def add(self, piece: Piece) -> list[dict[str, Any]]:
        at = (len(self._text), piece)
        self._text += piece.text
        self.finish_reason = piece.finish_reason
        has_token = self.wants_logprobs and piece.token is not None
        if has_token:
            self._pieces.append(at)
        if not (piece.text or piece.finish_reason or has_token):
            return []
        logprobs = self._logprobs([at]) if has_token else None
        reason = api_reason(piece.finish_reason)
        return [{"text": piece.text, "logprobs": logprobs, "finish_reason": reason}]

    def choice(self) -> dict[str, Any]:
        logprobs = self._logprobs(self._pieces) if self.wants_logprobs else None
        return {"text": self._text, "logprobs": logprobs, "finish_reason": api_reason(self.finish_reason)}

    def _logprobs(self, pieces: Sequence[tuple[int, Piece]]) -> dict[str, Any]:
        def name(token: int | None) -> str:
            return "" if token is None else token_text(self.tokenizer.decode_bytes([token]))

        return {
            "tokens": [name(piece.token) for _, piece in pieces],
            "token_logprobs": [piece.logprob for _, piece in pieces],
            "top_logprobs": [{name(top.token): top.logprob for top in piece.top} for _, piece in pieces],
            "text_offset": [offset for offset, _ in pieces],
        }


def token_text(data: bytes) -> str:
    """A token as text; one that is not whole characters shows its bytes, as OpenAI writes them."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

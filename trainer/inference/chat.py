"""Messages to a prompt, by the template that training data is rendered with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.templates import CHAT_STOP, SEPARATOR, Message, Role, Segment, clean, dialogue, turn
from trainer.inference.generation import Vocabulary

__all__ = [
    "CHAT_STOP",
    "ChatPrompt",
    "Message",
    "Role",
    "clean",
    "is_unfinished",
    "render",
    "token_boundaries",
]


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A prompt, and the places, in UTF-8 bytes, where its turns end."""

    segments: tuple[Segment, ...]
    turn_ends_bytes: tuple[int, ...]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)

    def encode(self, tokenizer: Vocabulary) -> list[int]:
        """Token ids, segment by segment as in training."""
        return [token for segment in self.segments for token in tokenizer.encode(segment.text)]


def is_unfinished(messages: Sequence[Message]) -> bool:
    """Whether the last message is the assistant's, to be gone on with."""
    return bool(messages) and messages[-1].role == "assistant"


def render(messages: Sequence[Message], begun: str = "") -> ChatPrompt:
    """The prompt that asks for the next answer; a last message of the assistant is gone on with.

    Args:
        begun: what the answer has to begin with, behind the colon.
    """
    unfinished = is_unfinished(messages)
    ends, offset = [], 0
    for message in messages[: len(messages) - unfinished]:
        offset += len((turn(message) + SEPARATOR).encode("utf-8", errors="surrogatepass"))
        ends.append(offset)
    segments = dialogue(messages, ask=not unfinished)
    return ChatPrompt((*segments, Segment(begun, counts=True)) if begun else segments, tuple(ends))


def token_boundaries(
    tokenizer: Vocabulary, tokens: Sequence[int], turn_ends_bytes: Sequence[int]
) -> list[int]:
    """Numbers of tokens after which a turn has just ended; a turn that ends inside a token is left out."""
    ends = set(turn_ends_bytes)
    boundaries = []
    offset = 0
    for number, token in enumerate(tokens, start=1):
        offset += len(tokenizer.decode_bytes([token]))
        if offset in ends:
            boundaries.append(number)
    return boundaries

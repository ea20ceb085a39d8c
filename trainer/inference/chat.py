"""Messages to a prompt in the template of the RWKV World models, and what ends an answer.

    System: …\\n\\nUser: …\\n\\nAssistant: …\\n\\nUser: …\\n\\nAssistant:

Turns are separated by an empty line, so a turn itself holds none; nothing follows the last colon, since the
space belongs to the answer's first token (rwkv.cn's fine-tuning format, RWKV7-G1x-templates.txt).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.inference.generation import Vocabulary

Role = Literal["system", "user", "assistant", "tool"]
_NAMES: dict[Role, str] = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "User"}
_SEPARATOR = "\n\n"
CHAT_STOP = tuple(f"{_SEPARATOR}{name}:" for name in ("User", "System", "Assistant"))


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; a tool's result is handed to the model as the user's turn."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A prompt and the places, in UTF-8 bytes, where its turns end."""

    text: str
    turn_ends_bytes: tuple[int, ...]


def clean(content: str) -> str:
    """A turn's text: line ends as \\n, no empty lines, no white space around it."""
    return re.sub(r"\n{2,}", "\n", content.replace("\r\n", "\n").replace("\r", "\n")).strip()


def render(messages: Sequence[Message]) -> ChatPrompt:
    """The prompt that asks for the next answer; a last message of the assistant is gone on with."""
    text = ""
    ends: list[int] = []
    for number, message in enumerate(messages):
        content = clean(message.content)
        if message.role == "tool":
            content = f"Function output:\n{content}"
        text += f"{_NAMES[message.role]}: {content}".rstrip()
        if message.role == "assistant" and number == len(messages) - 1:
            return ChatPrompt(text, tuple(ends))
        text += _SEPARATOR
        ends.append(len(text.encode("utf-8", errors="surrogatepass")))
    return ChatPrompt(f"{text}{_NAMES['assistant']}:", tuple(ends))


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

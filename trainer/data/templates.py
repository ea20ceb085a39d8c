"""The template of the RWKV World models: one place for training data and for prompts.

    System: …\\n\\nUser: …\\n\\nAssistant: …\\n\\nUser: …\\n\\nAssistant:

Turns are separated by an empty line, so a turn itself holds none; nothing follows the last colon, since the
space belongs to the answer's first token (rwkv.cn's fine-tuning format, RWKV7-G1x-templates.txt).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
Think = Literal["keep", "drop", "empty"]
SEPARATOR = "\n\n"
_NAMES: dict[Role, str] = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "User"}
CHAT_STOP = tuple(f"{SEPARATOR}{name}:" for name in ("User", "System", "Assistant"))
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_NO_THOUGHT = "<think>\n</think>\n"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; a tool's result is handed to the model as the user's turn.

    Attributes:
        counts: whether an answer is to be learned.
    """

    role: Role
    content: str
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch between two boundaries of a template, tokenised by itself in training and in prompts.

    Attributes:
        counts: the model's own words. A blank line at the start of the next segment is still theirs.
    """

    text: str
    counts: bool


def clean(content: str) -> str:
    """A turn's text: line ends as \\n, no empty lines, no white space around it."""
    content = content.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"\n(?:[^\S\n]*\n)+", "\n", content).strip()


def with_thought(answer: str, thought: str, think: Think) -> str:
    """An answer with its reasoning as the G1 models write it: in front, in a `think` tag.

    Args:
        answer: may already begin with the tag.
        thought: reasoning that was given apart; empty for none.
        think: "keep" what there is, "drop" it, or put an "empty" thought in its place.
    """
    if think == "keep":
        has_tag = _THOUGHT.match(answer) is not None
        return answer if has_tag or not thought.strip() else f"<think>{clean(thought)}\n</think>\n{answer}"
    answer = _THOUGHT.sub("", answer)
    return _NO_THOUGHT + answer if think == "empty" else answer


def turn(message: Message) -> str:
    """A message with its role's name in front."""
    content = clean(message.content)
    if message.role == "tool":
        content = f"Function output:\n{content}"
    return f"{_NAMES[message.role]}: {content}".rstrip()


def dialogue(messages: Sequence[Message], *, ask: bool = False) -> tuple[Segment, ...]:
    """A conversation as segments, cut behind the colon of each answer and behind its last word.

    Args:
        ask: end with the name that asks for an answer.
    """
    segments: list[Segment] = []
    prompt = ""
    for number, message in enumerate(messages):
        text = (SEPARATOR if number else "") + turn(message)
        if message.role != "assistant":
            prompt += text
            continue
        end = text.index(":") + 1
        segments.append(Segment(prompt + text[:end], counts=False))
        prompt = ""
        if text[end:]:
            segments.append(Segment(text[end:], message.counts))
    if ask:
        prompt += (SEPARATOR if messages else "") + f"{_NAMES['assistant']}:"
    if prompt:
        segments.append(Segment(prompt, counts=False))
    return tuple(segments)


def instruction(question: str, given: str, answer: str) -> tuple[Segment, ...]:
    """The Instruction / Input / Response template; without an input its part is left out."""
    parts = [
        f"Instruction: {clean(question)}",
        f"Input: {clean(given)}" if given.strip() else "",
        "Response:",
    ]
    prompt = SEPARATOR.join(part for part in parts if part)
    text = clean(answer)
    return (Segment(prompt, counts=False), *([Segment(f" {text}", counts=True)] if text else []))

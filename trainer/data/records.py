"""Records to documents: what the fields of a record say, rendered with the templates of RWKV.

| fields | shape | rendered as |
| --- | --- | --- |
| `messages` (role, content; `tools`) | messages | User / Assistant / System |
| `conversations` (from, value; `system`) | conversations | the same |
| `instruction`, `output` (`input`, `system`, `history`) | alpaca | the same |
| `instruction`, `response` (`input`) | instruction | Instruction / Input / Response |
| `text` | text | as it is |
| `prompt`, `completion` and their like | prompt_completion | User / Assistant; as they are after a role |
| `question`, `answer` | question_answer | User / Assistant |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from trainer.contract.data_terms import Remark, Shape
from trainer.contract.errors import InputError
from trainer.data.documents import BadRecordError, Document
from trainer.data.templates import Message, Role, Segment, Think, clean, dialogue, instruction, with_thought
from trainer.data.tools import call_block, with_tools

FIELDS = (
    "text", "messages", "conversations", "system", "instruction", "input", "output", "response", "prompt",
    "completion", "question", "answer",
)  # fmt: skip
_TURNS: tuple[tuple[str, Shape], ...] = (
    ("messages", "messages"), ("conversations", "conversations"), ("conversation", "conversations"),
)  # fmt: skip
_PAIRS: tuple[tuple[str, str, Shape], ...] = (
    ("prompt", "completion", "prompt_completion"), ("prompt", "response", "prompt_completion"),
    ("question", "answer", "question_answer"), ("query", "response", "prompt_completion"),
    ("input", "output", "prompt_completion"),
)  # fmt: skip
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
    "function_call": "assistant",
    **dict.fromkeys(("tool", "function", "ipython", "observation", "function_response"), "tool"),
}
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_ASKS = re.compile(r"(?:\A|\n)(?:Assistant|Response|Answer|A)[:：]\s*\Z")


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How records become documents.

    Attributes:
        columns: field of `FIELDS` -> name of the column or key that holds it; empty takes them as named.
        think: what becomes of an answer's reasoning.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    think: Think = "keep"

    @classmethod
    def make(cls, columns: str | None, think: Think) -> RenderOptions:
        """The options as the parameters `data_columns` and `think` give them.

        Raises:
            InputError: `data_columns_unknown`.
        """
        return cls(parse_columns(columns), think)

    def fingerprint(self) -> str:
        """The options as a text, the same for the same result."""
        return json.dumps([sorted(self.columns.items()), self.think], ensure_ascii=False)


def parse_columns(text: str | None) -> dict[str, str]:
    """`prompt=Question,completion=Reply` as a mapping.

    Raises:
        InputError: `data_columns_unknown`, a part that names no field.
    """
    columns: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        name, equals, column = (piece.strip() for piece in part.partition("="))
        if name.lower() not in FIELDS or not equals or not column:
            raise InputError("data_columns_unknown", part=part, fields=", ".join(FIELDS))
        columns[name.lower()] = column
    return columns


def find_shape(names: Iterable[str]) -> Shape | None:
    """What fields of these names make, or None."""
    found = set(names)
    for name, shape in _TURNS:
        if name in found:
            return shape
    if "instruction" in found and found & {"output", "response"}:
        return "alpaca" if "output" in found else "instruction"
    if "text" in found:
        return "text"
    return next((shape for question, answer, shape in _PAIRS if {question, answer} <= found), None)


def field_names(names: Iterable[str], columns: Mapping[str, str]) -> list[str]:
    """The fields that columns of these names give: those chosen, or all in lower case."""
    names = list(names)
    if columns:
        return [name for name, column in columns.items() if column in names]
    return [name.strip().lower() for name in names]


def document_of(value: Any, options: RenderOptions, place: str = "") -> Document:
    """The document that a record stands for.

    Raises:
        BadRecordError: it is none.
    """
    if not isinstance(value, Mapping):
        raise BadRecordError("not a JSON object")
    if options.columns:
        fields = {name: value.get(column) for name, column in options.columns.items() if column in value}
    else:
        fields = {str(name).strip().lower(): part for name, part in value.items()}
    # A field without a value is as good as none: tables and Parquet have every column in every row.
    shape = find_shape(name for name, part in fields.items() if part is not None) or find_shape(fields)
    if shape is None:
        raise BadRecordError(f"no known fields ({', '.join(map(str, value))[:80]})")
    if shape == "text":
        return Document(iter((_text(fields, "text"),)), "text", place)
    if shape == "instruction":
        return _instruction(fields, place)
    if shape in ("messages", "conversations"):
        messages = _conversation(fields, shape, options.think)
    elif shape == "alpaca":
        messages = _alpaca(fields, options.think)
    else:
        question, answer = next((q, a) for q, a, s in _PAIRS if s == shape and {q, a} <= set(fields))
        asked, answered = fields[question], fields[answer]
        if isinstance(asked, list) and isinstance(answered, list):
            messages = _messages([*asked, *answered], options.think)
        elif _ASKS.search(prompt := _text(fields, question)):
            return _completion(prompt, _text(fields, answer, may_be_empty=True), shape, place)
        else:
            messages = _pair(fields, prompt, _text(fields, answer, may_be_empty=True), options.think)
    if not any(message.content.strip() for message in messages):
        raise BadRecordError("empty")
    return Document(dialogue(messages), shape, place, _remarks(messages))


def _text(fields: Mapping[str, Any], name: str, *, may_be_empty: bool = False) -> str:
    value = fields.get(name)
    if may_be_empty and value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecordError(f"“{name}” is not a string")
    if not may_be_empty and not value.strip():
        raise BadRecordError(f"“{name}” is empty")
    return value


def _instruction(fields: Mapping[str, Any], place: str) -> Document:
    given = _text(fields, "input", may_be_empty=True)
    answer = _text(fields, "response", may_be_empty=True)
    segments = instruction(_text(fields, "instruction"), given, answer)
    return Document(segments, "instruction", place, _empty(answer))


def _completion(prompt: str, completion: str, shape: Shape, place: str) -> Document:
    segments = (Segment(prompt, counts=False), Segment(completion, counts=True))
    return Document(segments if completion else segments[:1], shape, place, _empty(completion))


def _empty(answer: str) -> frozenset[Remark]:
    return frozenset() if answer.strip() else frozenset({"empty_answer"})


def _pair(fields: Mapping[str, Any], question: str, answer: str, think: Think) -> list[Message]:
    return [
        *_system(fields.get("system")),
        Message("user", question),
        Message("assistant", with_thought(answer, _thought(fields), think)),
    ]


def _alpaca(fields: Mapping[str, Any], think: Think) -> list[Message]:
    messages = _system(fields.get("system"))
    for earlier in fields.get("history") or ():
        if not isinstance(earlier, (list, tuple)) or len(earlier) != 2:
            raise BadRecordError("“history” is not a list of pairs")
        messages += [Message("user", str(earlier[0])), Message("assistant", str(earlier[1]))]
    given = _text(fields, "input", may_be_empty=True)
    question = _text(fields, "instruction") + (f"\n{given}" if given.strip() else "")
    return [*messages, *_pair({}, question, _text(fields, "output", may_be_empty=True), think)]


def _system(text: Any) -> list[Message]:
    return [Message("system", text)] if isinstance(text, str) and text.strip() else []


def _conversation(fields: Mapping[str, Any], shape: Shape, think: Think) -> list[Message]:
    name = next(name for name, found in _TURNS if found == shape and name in fields)
    turns = _decoded(fields[name])
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise BadRecordError(f"“{name}” is not a list of turns")
    messages = _messages(turns, think)
    if messages[0].role != "system":
        messages = [*_system(fields.get("system")), *messages]
    return with_tools(messages, _decoded(fields.get("tools")))


def _decoded(value: Any) -> Any:
    """A list that a table or another tool holds as JSON text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _messages(turns: Sequence[Any], think: Think) -> list[Message]:
    messages = []
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, Mapping):
            raise BadRecordError(f"turn {number} is not an object")
        said = str(turn.get("role", turn.get("from", ""))).strip()
        role = _ROLES.get(said.lower())
        if role is None:
            raise BadRecordError(f"turn {number} has the unknown role “{said}”")
        content = _content(turn.get("content", turn.get("value")), number) + _calls(turn)
        if role == "assistant":
            content = with_thought(content, _thought(turn), think)
        messages.append(Message(role, content, counts=turn.get("weight") != 0))
    return messages


def _content(content: Any, number: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, (list, tuple)):
        if all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content):
            return "\n".join(part["text"] for part in content)
        raise BadRecordError(f"turn {number} has parts that are not text")
    raise BadRecordError(f"turn {number} has no text")


def _calls(turn: Mapping[str, Any]) -> str:
    """The functions that an assistant's turn calls, as the G1 models write them."""
    calls = turn.get("tool_calls") or ([turn["function_call"]] if turn.get("function_call") else [])
    if not isinstance(calls, (list, tuple)) or not calls:
        return ""
    plain = [
        {"name": function.get("name"), "arguments": _decoded(function.get("arguments"))}
        for call in calls
        if isinstance(call, Mapping) and isinstance(function := call.get("function", call), Mapping)
    ]
    return f"\n{call_block(plain)}" if plain else ""


def _thought(fields: Mapping[str, Any]) -> str:
    return next((text for name in _THOUGHTS if isinstance(text := fields.get(name), str)), "")


def _remarks(messages: Sequence[Message]) -> frozenset[Remark]:
    found: set[Remark] = set()
    if any(message.role == "assistant" and not clean(message.content) for message in messages):
        found.add("empty_answer")
    roles = [message.role for message in messages if message.role != "system"]
    repeats = any(a == b for a, b in pairwise(roles) if a != "tool")
    if repeats or not roles or roles[0] != "user" or roles[-1] != "assistant":
        found.add("unbalanced_roles")
    return frozenset(found)

"""Functions that a model may call, as RWKV's G1 models read and write them.

    System: Tools:\\n[…]\\n\\nUser: …\\n\\nAssistant: ```json\\n{"name": …, "arguments": {…}}\\n```\\n\\n
    User: Function output:\\n…

(RWKV7-G1x-templates.txt)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.data.templates import Message

FENCE = "```json"
FENCE_END = "```"


def with_tools(messages: Sequence[Message], tools: Any) -> list[Message]:
    """The conversation with the functions that may be called in front of the system's turn.

    Args:
        tools: a list of descriptions, or their text; nothing changes where it is empty.
    """
    if not tools:
        return list(messages)
    listed = tools if isinstance(tools, str) else as_json(tools)
    if not messages or messages[0].role != "system":
        return [Message("system", f"Tools:\n{listed}"), *messages]
    return [Message("system", f"Tools:\n{listed}\n{messages[0].content}"), *messages[1:]]


def call_block(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls as an assistant's turn holds them: one as an object, several as a list.

    Args:
        calls: each with `name` and `arguments`.
    """
    plain: Any = calls[0] if len(calls) == 1 else list(calls)
    return f"{FENCE}\n{as_json(plain)}\n{FENCE_END}"


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

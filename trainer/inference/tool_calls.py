"""Finding the functions that an answer calls, while it comes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from trainer.data.tools import FENCE, FENCE_END


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call; `arguments` is JSON text, as OpenAI's API has it."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }


class ToolCallStream:
    """Takes an answer apart into words and calls.

    A fenced block of JSON that calls known functions is calls; any other block is words like the rest.

    Args:
        names: functions that may be called.
        begun: what the prompt has already begun of a block behind its fence; None where it has not.
    """

    def __init__(self, names: Collection[str], begun: str | None = None) -> None:
        self._names = names
        self._held = begun or ""
        self._inside = begun is not None

    def push(self, text: str) -> tuple[str, list[ToolCall]]:
        """The words that are certain now, and the calls that are complete now."""
        self._held += text
        words, calls = "", []
        while True:
            mark = FENCE_END if self._inside else FENCE
            before, found, after = self._held.partition(mark)
            if not found:
                break
            self._held, self._inside = after, not self._inside
            if self._inside:
                words += before
            elif block := self._calls(before):
                calls += block
            else:
                words += f"{FENCE}{before}{FENCE_END}"
        if not self._inside:
            keep = _begun(self._held, FENCE)
            words += self._held[: len(self._held) - keep]
            self._held = self._held[len(self._held) - keep :]
        return words, calls

    def finish(self, *, whole: bool) -> tuple[str, list[ToolCall]]:
        """What is left when no more comes.

        Args:
            whole: the answer came to its own end, where a last block may lack its closing fence.
        """
        rest, self._held = self._held, ""
        if not self._inside:
            return rest, []
        self._inside = False
        if whole and (calls := self._calls(rest)):
            return "", calls
        return f"{FENCE}{rest}", []

    def _calls(self, block: str) -> list[ToolCall]:
        """The calls of a block; none where anything in it is something else."""
        try:
            value, _ = json.JSONDecoder().raw_decode(block.strip())
        except (ValueError, RecursionError):
            return []
        listed = value if isinstance(value, list) else [value]
        calls = [call for item in listed if (call := self._call(item)) is not None]
        return calls if len(calls) == len(listed) else []

    def _call(self, item: Any) -> ToolCall | None:
        if not isinstance(item, dict):
            return None
        name, arguments = item.get("name"), item.get("arguments", {})
        if not isinstance(name, str) or name not in self._names:
            return None
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        return ToolCall(name, arguments)


def _begun(text: str, mark: str) -> int:
    """Length of the longest end of the text that the mark begins with."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)

"""A message that is still being written, as parts: thought, prose, code. Only the last part ever changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

PartKind = Literal["thought", "prose", "code"]
# A part of prose is drawn as a whole whenever it grows, so a long text is many of them.
PROSE_CHARS = 1000
_FORCED_CHARS = 3 * PROSE_CHARS
_THINK, _THOUGHT_END = "<think>", "</think>"
_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[^`\s]*)[^`]*$")
# Lines that go on with the line before: lists, quotes, tables, what is indented.
_BOUND = re.compile(r"\s*([-*+]\s|\d{1,9}[.)]\s|>|\|)|\s{2,}\S|\s*[-=]{3,}\s*$|.*\|")


@dataclass(slots=True)
class Part:
    """A stretch of one kind.

    Attributes:
        text: of prose, as it was written; `markdown` is what to show.
        language: of code, as its fence names it.
        is_open: whether more may come.
    """

    kind: PartKind
    text: str = ""
    language: str = ""
    is_open: bool = True

    def markdown(self) -> str:
        """Prose with its line ends kept: a model's line is a paragraph, not the half of one."""
        lines = self.text.split("\n")
        out = lines[:1]
        for before, line in pairwise(lines):
            plain = bool(before.strip() and line.strip()) and not _BOUND.match(line)
            out.append(f"\n{line}" if plain else line)
        return "\n".join(out)


class MessageParts:
    """Takes a message apart as it comes; what is done costs nothing any more."""

    def __init__(self, text: str = "") -> None:
        self.parts: list[Part] = []
        self._line = ""
        self._fence = ""
        self._at_start = True
        self._shown = 0  # characters of the unfinished line that the last part has already
        self.append(text)

    def append(self, text: str) -> int:
        """Take more of the message; the number of the first part that is another than before."""
        changed = max(0, len(self.parts) - 1)
        self._line += text
        if self._at_start and not self._decide_start():
            return changed
        if self._in("thought") and not self._end_thought():
            return changed
        # The line that is not whole yet is shown as part of what it will belong to.
        self._take_back_line()
        *lines, self._line = self._line.split("\n")
        for line in lines:
            self._take(line)
        self._show_line()
        return changed

    def finish(self) -> None:
        """No more comes: what was held back is shown, and the last part is done."""
        self._at_start = False
        if self._in("thought"):
            self._last.text = (self._last.text + self._line).strip()
        else:
            self._take_back_line()
            self._take(self._line)
        self._line = ""
        self._close()

    @property
    def _last(self) -> Part:
        return self.parts[-1]

    def _in(self, kind: PartKind) -> bool:
        return bool(self.parts) and self._last.kind == kind and self._last.is_open

    def _decide_start(self) -> bool:
        """Whether it is known if the message begins with a thought."""
        begun = self._line.lstrip()
        if begun.startswith(_THINK):
            self.parts.append(Part("thought"))
            self._line = begun[len(_THINK) :]
        elif _THINK.startswith(begun):
            return False
        else:
            self._line = begun
        self._at_start = False
        return True

    def _end_thought(self) -> bool:
        thought, found, rest = self._line.partition(_THOUGHT_END)
        if not found:
            # The end mark may have begun; it is shorter than what is kept back.
            keep = min(len(_THOUGHT_END) - 1, len(self._line))
            self._last.text += self._line[: len(self._line) - keep]
            self._line = self._line[len(self._line) - keep :]
            return False
        self._last.text = (self._last.text + thought).strip()
        self._last.is_open = False
        self._line = rest.lstrip()
        return True

    def _take_back_line(self) -> None:
        if self._shown:
            self._last.text = self._last.text[: -self._shown]
            self._shown = 0

    def _show_line(self) -> None:
        """The unfinished line, unless it may become a fence."""
        while len(self._line) > _FORCED_CHARS and not self._in("code"):
            at = self._line.rfind(" ", PROSE_CHARS, _FORCED_CHARS)
            at = at if at > 0 else _FORCED_CHARS
            self._take_prose(self._line[:at])
            self._close()
            self._line = self._line[at:]
        line = self._line
        if not line or line.lstrip(" ")[:3] in ("`", "``", "```", "~", "~~", "~~~"):
            return
        if not self._in("code") and not self._in("prose"):
            self.parts.append(Part("prose"))
        if self._in("prose") and len(self._last.text) > _FORCED_CHARS:
            self._close()
            self.parts.append(Part("prose"))
        self._last.text += line
        self._shown = len(line)

    def _take(self, line: str) -> None:
        """One whole line."""
        fence = _FENCE.match(line)
        if self._in("code"):
            mark = fence["mark"] if fence else ""
            if mark.startswith(self._fence) and not (fence and fence["language"]):
                self._close()
            else:
                self._last.text += f"{line}\n"
        elif fence:
            self._close()
            self._fence = fence["mark"]
            self.parts.append(Part("code", language=fence["language"]))
        else:
            self._take_prose(line)

    def _take_prose(self, line: str) -> None:
        if self._in("prose"):
            long = len(self._last.text) > PROSE_CHARS and not _BOUND.match(line)
            if long or len(self._last.text) > _FORCED_CHARS:
                self._close()
        if not self._in("prose"):
            if not line.strip():
                return
            self.parts.append(Part("prose"))
        self._last.text += f"{line}\n"

    def _close(self) -> None:
        if self.parts and self._last.is_open:
            self._last.is_open = False
            if self._last.kind == "prose":
                self._last.text = self._last.text.rstrip()

"""Which parts of a text are the assistant's words, by the role names of RWKV's templates.

A turn begins with its role's name and a colon at the start of the text or of a paragraph. The families are
`User:` / `Assistant:` with `System:`, `Instruction:` / `Input:` / `Response:`, and `Question:` / `Answer:`
with its short form `Q:` / `A:`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Family:
    """Role names that go together."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]

    def pattern(self, before: str) -> re.Pattern[str]:
        names = "|".join((*self.prompts, *self.answers))
        return re.compile(rf"(?:{before})({names})[:：]")


CHAT = Family(("User", "System"), ("Assistant",))
FAMILIES = (
    CHAT,
    Family(("Instruction", "Input"), ("Response",)),
    Family(("Question",), ("Answer",)),
    Family(("Q",), ("A",)),
)
# A line of an answer may look like a turn, so line starts count only where no paragraph start does.
_TURN_STARTS = ("\n\n+", "\n")
_FIRST = {(f, start): f.pattern(rf"\A\s*|{start}") for start in _TURN_STARTS for f in FAMILIES}
_LATER = {(f, start): f.pattern(start) for start in _TURN_STARTS for f in FAMILIES}
_NAMES = "|".join(name for family in FAMILIES for name in (*family.prompts, *family.answers))
# Two patterns, because a search for one that begins with a newline jumps from line to line.
_NAME_AT_START = re.compile(rf"\s*(?:{_NAMES})[:：]")
_NAME_AT_LINE = re.compile(rf"\n(?:{_NAMES})[:：]")


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a text."""

    name: str
    is_answer: bool
    is_empty: bool


def turns(text: str) -> list[Turn]:
    """The turns of a text, in order; none where it is no conversation."""
    form = _conversation(text)
    if form is None:
        return []
    found = list(_FIRST[form].finditer(text))
    ends = [*(following.start() for following in found[1:]), len(text)]
    return [
        Turn(turn[1], turn[1] in form[0].answers, not text[turn.end() : end].strip())
        for turn, end in zip(found, ends, strict=True)
    ]


class RoleMarker:
    """Finds the assistant's words of one document, piece by piece.

    The first piece decides whether the document is a conversation, and of which family; one that is not
    counts as a whole.
    """

    def __init__(self) -> None:
        self._form: tuple[Family, str] | None = None
        self._started = False
        self._offset = 0
        self._changes_at: list[int] = [0]
        self._counts: list[int] = [1]

    @property
    def has_roles(self) -> bool:
        return self._form is not None

    @property
    def counts_at_end(self) -> bool:
        """Whether the end of the document belongs to the assistant."""
        return bool(self._counts[-1])

    def watch(self, pieces: Iterator[str]) -> Iterator[str]:
        """Pass the pieces on, having looked at each."""
        for piece in pieces:
            self._feed(piece)
            yield piece

    def mask(self, starts: np.ndarray) -> np.ndarray:
        """Which tokens count: uint8 [n], by the bytes of the document at which they start."""
        spans = np.searchsorted(np.array(self._changes_at), starts, side="right") - 1
        return np.array(self._counts, dtype=np.uint8)[spans]

    def _feed(self, piece: str) -> None:
        patterns = _LATER
        if not self._started:
            self._started = True
            self._form = _conversation(piece)
            self._counts = [int(self._form is None)]
            patterns = _FIRST
        if self._form is None:
            return
        done = 0
        for found in patterns[self._form].finditer(piece):
            is_answer = found[1] in self._form[0].answers
            # An answer begins behind its colon, and its last token is the blank line before the next name.
            at = found.end() if is_answer else found.start(1)
            self._offset += _n_bytes(piece[done:at])
            done = at
            self._changes_at.append(self._offset)
            self._counts.append(int(is_answer))
        self._offset += _n_bytes(piece[done:])


def _conversation(text: str) -> tuple[Family, str] | None:
    """The family of a text's roles and what its turns start behind, or None if it has no roles."""
    if _NAME_AT_START.match(text) is None and _NAME_AT_LINE.search(text) is None:
        return None
    for (family, start), pattern in _FIRST.items():
        names = {found[1] for found in pattern.finditer(text)}
        if names & set(family.answers) and names & set(family.prompts):
            return family, start
    # A chat without an answer, or without a question, is still one.
    chat = (CHAT, _TURN_STARTS[0])
    return chat if _FIRST[chat].match(text) else None


def _n_bytes(text: str) -> int:
    # Surrogates are three bytes in both forms: as they are, and as the U+FFFD that the tokenizer sees.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

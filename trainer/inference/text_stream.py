"""From tokens' bytes to text that may be shown: whole characters only, and nothing of a stop text."""

from __future__ import annotations

import codecs
from collections.abc import Iterable


class TextStream:
    """Decodes bytes as they come and ends at a stop text, also one that spans several tokens.

    Bytes of an unfinished character, and text that a stop text may begin with, are held back.
    """

    def __init__(self, stop: Iterable[str] = ()) -> None:
        self._stop = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def push(self, data: bytes) -> str:
        """The text that is certain now; `stopped` is set where a stop text was met."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        starts = [at for text in self._stop if (at := self._held.find(text)) >= 0]
        if starts:
            self.stopped = True
            text, self._held = self._held[: min(starts)], ""
            return text
        cut = len(self._held) - self._undecided()
        text, self._held = self._held[:cut], self._held[cut:]
        return text

    def finish(self, *, cut_short: bool) -> str:
        """What was held back, when no more comes.

        Args:
            cut_short: the answer was ended from outside, so half a character is left out; otherwise the
                model itself left it unfinished and it shows as U+FFFD.
        """
        if self.stopped:
            return ""
        rest = "" if cut_short else self._decoder.decode(b"", final=True)
        text, self._held = self._held + rest, ""
        return text

    def _undecided(self) -> int:
        """Length of the longest end of the held text that a stop text begins with."""
        longest = max((len(text) for text in self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(text.startswith(end) for text in self._stop):
                return length
        return 0


class TrimmedStream:
    """Drops white space at both ends of a text that comes in pieces.

    Args:
        begun: there is text before it, so only its end is trimmed.
    """

    def __init__(self, *, begun: bool = False) -> None:
        self._begun = begun
        self._held = ""

    def push(self, text: str) -> str:
        """The text without its leading white space; white space at its end waits for what follows."""
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        text = self._held + text
        shown = text.rstrip()
        self._held = text[len(shown) :]
        return shown

"""Server-sent events from arbitrary chunks of bytes (WHATWG HTML 9.2): the data of each event."""

from __future__ import annotations

from collections.abc import Iterator

MAX_BUFFER_BYTES = 16 * 1024 * 1024


class SseParser:
    """Frames on bytes and decodes whole lines only, so that no character is ever cut in two."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the data of every event that is complete now.

        Raises:
            ValueError: the server sends a line without end.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_BUFFER_BYTES:
            raise ValueError("a line of the event stream does not end")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", errors="replace")
            if not line:
                if self._data:
                    yield "\n".join(self._data)
                self._data = []
            elif line.startswith("data:"):
                self._data.append(line[5:].removeprefix(" "))

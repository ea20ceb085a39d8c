"""What wsl.exe prints and how it ends, understood without reading a sentence of it.

Its messages are in the language of Windows. What is not: the error path `Wsl/<context>/.../<CODE>`, error
numbers, and exit codes. Those are all that is looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_PATH = re.compile(r"\bWsl(?:/[A-Za-z0-9_]+)+")
_NUMBER = re.compile(r"\b0x[0-9a-fA-F]{3,8}\b")

NOT_INSTALLED = 50  # the stub in System32, while there is no WSL behind it
NO_KERNEL = 0xFFFFFE44  # -444: the inbox version without its kernel
_WINDOWS_FAILURE = 255  # Linux ends with 0 to 255; anything above is wsl.exe's own word
# Exit codes by which wsl.exe may report its own failure within the range of Linux: 1 in old versions, and 255
# where -1 has passed through a system with exit codes of eight bits. Only an error path tells them apart.
_AMBIGUOUS = (1, 255)
# The raw wait status of a program that a signal ended. They overlap with exit codes: 9 may be either, but no
# program of ours ends with these.
_RAW_SIGNALS = (6, 7, 9, 11, 15)


def decode(data: bytes) -> str:
    """Return what wsl.exe printed: UTF-8, or UTF-16LE where it did not obey WSL_UTF8, or one after the other.

    A Linux program's UTF-8 and wsl.exe's own UTF-16 share a pipe. Text has no NUL in UTF-8, and every message
    has some in UTF-16 (its line ends, at least), so the first NUL shows which part is which.
    """
    if b"\0" not in data:
        return _lines(data.decode("utf-8-sig", "replace"))
    first_nul = data.index(b"\0")
    start = data.rfind(b"\n", 0, max(first_nul - 1, 0)) + 1
    if (first_nul - start) % 2 == 0 or not _is_utf8(data[:start]):
        start = 0
    message = data[start:].removeprefix(b"\xff\xfe")
    return _lines(data[:start].decode("utf-8") + message.decode("utf-16-le", "replace"))


@dataclass(frozen=True)
class WslError:
    """One error of wsl.exe: its contexts and its code, as printed (`E_UNEXPECTED`, `0x8007019e`)."""

    contexts: tuple[str, ...]
    code: str

    @property
    def token(self) -> str:
        """As wsl.exe writes it, for people to search for."""
        return "/".join(("Wsl", *self.contexts, self.code)) if self.contexts else self.code


def find_error(text: str) -> WslError | None:
    """Return the last error path in what wsl.exe printed, else the last error number, or None."""
    paths = _PATH.findall(text)
    if paths:
        _, *contexts, code = paths[-1].split("/")
        return WslError(tuple(contexts), code)
    numbers = _NUMBER.findall(text)
    return WslError((), numbers[-1].lower()) if numbers else None


def names_offered(text: str) -> list[str]:
    """Return the names in what `--list --online` printed, in its order.

    The sentence before the table is translated, the head of the table is not.
    """
    lines = [line.split() for line in text.splitlines()]
    heads = [place for place, words in enumerate(lines) if words[:2] == ["NAME", "FRIENDLY"]]
    return [words[0] for words in lines[heads[0] + 1 :] if words] if heads else []


class Ended(Enum):
    """Who ended a command, and how."""

    BY_WINDOWS = "windows"  # wsl.exe failed; the program inside may not even have started
    BY_EXIT = "exit"
    BY_SIGNAL = "signal"


@dataclass(frozen=True)
class Exit:
    """How a command under wsl.exe ended: an exit code of Windows or Linux, or a signal's number."""

    ended: Ended
    number: int

    @property
    def code(self) -> int:
        """As `hosts.base.Completed` has it: negative for a signal."""
        return -self.number if self.ended is Ended.BY_SIGNAL else self.number


def understand_exit(returncode: int, output: str = "") -> Exit:
    """Return what the exit code of wsl.exe means.

    Args:
        returncode: as the system gave it; -1 and what no signal has are 32-bit codes of Windows, other
            negative numbers are the signal that ended the program which plays wsl.exe.
        output: what came out of the same call, to tell the codes that both sides use.
    """
    if -64 <= returncode < -1:
        return Exit(Ended.BY_SIGNAL, -returncode)
    returncode &= 0xFFFFFFFF
    if returncode > _WINDOWS_FAILURE or (returncode in _AMBIGUOUS and _PATH.search(output)):
        return Exit(Ended.BY_WINDOWS, 0xFFFFFFFF if returncode == _WINDOWS_FAILURE else returncode)
    if returncode in _RAW_SIGNALS:
        return Exit(Ended.BY_SIGNAL, returncode)
    if 128 < returncode < 160:  # a shell's way to say it, and the raw status with the mark for a core dump
        return Exit(Ended.BY_SIGNAL, returncode - 128)
    return Exit(Ended.BY_EXIT, returncode)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")

"""The command line of wsl.exe, which reads it raw: split at blanks, with quotes in few places only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

VALUED = {
    "-d": "distribution", "--distribution": "distribution", "--distribution-id": "distribution_id",
    "-u": "user", "--user": "user", "--shell-type": "shell",
}  # fmt: skip
SHELLS = ("standard", "login", "none")
_GUID = re.compile(r"\{?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?", re.IGNORECASE)
MANAGING = {
    "-l": "--list", "-v": "--version", "-s": "--set-default", "-t": "--terminate",
    **{name: name for name in (
        "--list", "--version", "--status", "--set-default", "--set-default-version", "--set-version",
        "--terminate", "--shutdown", "--unregister", "--import", "--import-in-place", "--export", "--install",
        "--update", "--manage", "--mount", "--unmount", "--uninstall", "--help",
    )},
}  # fmt: skip


class UsageError(Exception):
    """A command line that wsl.exe refuses: which sentence it says (`messages.py`), and about what."""

    def __init__(self, key: str, option: str = "") -> None:
        super().__init__(f"{key} {option}")
        self.key, self.option = key, option


@dataclass
class Request:
    """What a command line asks for.

    `manage` is an option like --import, with its words; else something runs inside: `argv` without a shell,
    `script` by one, or a log-in shell where both are missing.
    """

    distribution: str | None = None
    user: str | None = None
    folder: str | None = None
    manage: str | None = None
    words: list[str] = field(default_factory=list)
    argv: list[str] | None = None
    script: str | None = None
    distribution_id: str | None = None
    shell: str = "standard"


def parse(line: str) -> Request:
    """Understand a raw command line, the program's own name included.

    Raises:
        UsageError: an unknown option, a missing or wrong value.
    """
    request = Request()
    _, line = _word(line, quotes=True)
    word, rest = _word(line)
    if _GUID.fullmatch(word):
        request.distribution_id, line = word, rest
        word, rest = _word(line)
    if word == "~":
        request.folder, line = "~", rest
    while line:
        word, rest = _word(line)
        if word in VALUED:
            value, line = _word(rest)
            _check(request, word, value)
            setattr(request, VALUED[word], value)
        elif word == "--cd":
            value, line = _word(rest, quotes=True)
            request.folder = value.strip('"')
        elif word in ("-e", "--exec"):
            return _exec(request, rest)
        elif word in MANAGING:
            request.manage, request.words = MANAGING[word], split_arguments(rest)
            return request
        elif word == "--":
            return _script(request, rest)
        elif word.startswith("-"):
            raise UsageError("invalid", word)
        else:
            return _script(request, line)
    return request


def _check(request: Request, option: str, value: str) -> None:
    if not value:
        raise UsageError("no_value", option)
    if option in ("-d", "--distribution") and (request.distribution or request.distribution_id):
        raise UsageError("distribution_set")
    if option == "--distribution-id" and not _GUID.fullmatch(value):
        raise UsageError("bad_argument")
    if option == "--shell-type" and value not in SHELLS:
        raise UsageError("bad_argument")


def _exec(request: Request, line: str) -> Request:
    request.argv = split_arguments(line)
    if not request.argv:
        raise UsageError("bad_argument")
    return request


def _script(request: Request, line: str) -> Request:
    if request.shell == "none":
        return _exec(request, line)
    request.script = line or None
    return request


def options(
    words: list[str], flags: Iterable[str] = (), valued: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Take the words of a managing command apart, in which options may stand anywhere.

    Args:
        words: what follows the command.
        flags: the options without a value.
        valued: the options with one, and the name of each: a short form has that of the long one.

    Returns:
        The other words, and the options by name; those without a value have "".

    Raises:
        UsageError: an unknown option, or one without its value.
    """
    known = {**dict.fromkeys(flags, ""), **(valued or {})}
    positional: list[str] = []
    found: dict[str, str] = {}
    left = iter(words)
    for word in left:
        if not word.startswith("-") or word == "-":
            positional.append(word)
        elif word not in known:
            raise UsageError("invalid", word)
        elif not known[word]:
            found[word] = ""
        elif (value := next(left, None)) is None:
            raise UsageError("no_value", word)
        else:
            found[known[word]] = value
    return positional, found


def _word(line: str, *, quotes: bool = False) -> tuple[str, str]:
    line = line.lstrip(" \t")
    inside, end = False, 0
    while end < len(line) and (inside or line[end] not in " \t"):
        inside ^= quotes and line[end] == '"'
        end += 1
    return line[:end], line[end:].lstrip(" \t")


def split_arguments(line: str) -> list[str]:
    """Split as CommandLineToArgvW does: backslashes count only before quotes, doubled quotes are one."""
    out: list[str] = []
    current, inside, begun, at = "", False, False, 0
    while at < len(line):
        if line[at] in " \t" and not inside:
            if begun:
                out.append(current)
            current, begun = "", False
            at += 1
        elif match := re.compile(r'(\\*)"').match(line, at):
            slashes = len(match[1])
            current, begun = current + "\\" * (slashes // 2), True
            at = match.end()
            if slashes % 2:
                current += '"'
            elif inside and line[at : at + 1] == '"':
                current += '"'
                at += 1
            else:
                inside = not inside
        else:
            current, begun = current + line[at], True
            at += 1
    return [*out, current] if begun else out

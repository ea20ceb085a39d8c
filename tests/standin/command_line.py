"""The command line of wsl.exe, which reads it raw: split at blanks, with quotes in few places only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

VALUED = {"-d": "distribution", "--distribution": "distribution", "-u": "user", "--user": "user"}
MANAGING = {
    "-l": "--list", "-v": "--version", "-s": "--set-default", "-t": "--terminate",
    **{name: name for name in (
        "--list", "--version", "--status", "--set-default", "--set-default-version", "--set-version",
        "--terminate", "--shutdown", "--unregister", "--import", "--export", "--install", "--update",
        "--help",
    )},
}  # fmt: skip


class UsageError(Exception):
    """An option that wsl.exe does not know."""


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


def parse(line: str) -> Request:
    """Understand a raw command line, the program's own name included.

    Raises:
        UsageError: an unknown option.
    """
    request = Request()
    _, line = _word(line, quotes=True)
    word, rest = _word(line)
    if word == "~":
        request.folder, line = "~", rest
    while line:
        word, rest = _word(line)
        if word in VALUED:
            value, line = _word(rest)
            setattr(request, VALUED[word], value)
        elif word == "--cd":
            value, line = _word(rest, quotes=True)
            request.folder = value.strip('"')
        elif word == "--shell-type":
            _, line = _word(rest)
        elif word in ("-e", "--exec"):
            request.argv = split_arguments(rest)
            return request
        elif word in MANAGING:
            request.manage, request.words = MANAGING[word], split_arguments(rest)
            return request
        elif word == "--":
            request.script = rest or None
            return request
        elif word.startswith("-"):
            raise UsageError(word)
        else:
            request.script = line
            return request
    return request


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

"""wsl.exe's grammar, quirks included."""

from __future__ import annotations

import pytest
from command_line import Request, UsageError, parse, split_arguments


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wsl", Request()),
        ('"C:\\Program Files\\wsl.exe" -d A -e ls', Request("A", argv=["ls"])),
        ('wsl -d A -u root --cd "C:\\a b" -e sh -c "x y"',
         Request("A", "root", "C:\\a b", argv=["sh", "-c", "x y"])),
        ("wsl ~ -d A", Request("A", folder="~")),
        # Quotes are not read here: the name ends at the blank, and the rest is a script for the shell.
        ('wsl -d "My Distro" -e ls', Request('"My', script='Distro" -e ls')),
        ("wsl ls -l | wc", Request(script="ls -l | wc")),
        ('wsl -d A -- "uname -r; id"', Request("A", script='"uname -r; id"')),
        ("wsl -l -v", Request(manage="--list", words=["-v"])),
        ('wsl --import A "C:\\x y" f --version 2',
         Request(manage="--import", words=["A", "C:\\x y", "f", "--version", "2"])),
    ],
)  # fmt: skip
def test_what_a_line_asks_for(line: str, expected: Request) -> None:
    assert parse(line) == expected


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UsageError, match="--nope"):
        parse("wsl --nope")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (r'a "b c" d', ["a", "b c", "d"]),
        (r'"a\\" b', ["a\\", "b"]),
        (r"a\\b", [r"a\\b"]),
        (r'"say \"hi\""', ['say "hi"']),
        ('""', [""]),
        ('"a""b"', ['a"b']),
        ("", []),
    ],
)
def test_arguments_are_split_as_windows_does(line: str, words: list[str]) -> None:
    assert split_arguments(line) == words

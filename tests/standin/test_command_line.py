"""wsl.exe's grammar, quirks included."""

from __future__ import annotations

import pytest
from command_line import Request, UsageError, options, parse, split_arguments

GUID = "{12345678-9abc-def0-1234-56789abcdef0}"


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
        (f"wsl --distribution-id {GUID} -e ls", Request(distribution_id=GUID, argv=["ls"])),
        (f"wsl {GUID} ~ ls", Request(distribution_id=GUID, folder="~", script="ls")),
        ('wsl --shell-type none printf "a b"', Request(shell="none", argv=["printf", "a b"])),
        ("wsl --shell-type login ls", Request(shell="login", script="ls")),
        ("wsl -l -v", Request(manage="--list", words=["-v"])),
        ('wsl --import A "C:\\x y" f --version 2',
         Request(manage="--import", words=["A", "C:\\x y", "f", "--version", "2"])),
    ],
)  # fmt: skip
def test_what_a_line_asks_for(line: str, expected: Request) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("wsl --nope", "invalid"),
        ("wsl -d", "no_value"),
        ("wsl -d A -d B", "distribution_set"),
        ("wsl --distribution-id A ls", "bad_argument"),
        ("wsl --shell-type fish ls", "bad_argument"),
        ("wsl -d A -e", "bad_argument"),
    ],
)
def test_what_is_refused(line: str, key: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(line)
    assert refused.value.key == key


def test_options_of_a_managing_command_stand_anywhere() -> None:
    assert options(["a", "--vhd", "-", "-n", "x"], ("--vhd",), {"-n": "name"}) == (
        ["a", "-"],
        {"--vhd": "", "name": "x"},
    )
    for words, key in ((["--size"], "invalid"), (["-n"], "no_value")):
        with pytest.raises(UsageError) as refused:
            options(words, ("--vhd",), {"-n": "name"})
        assert refused.value.key == key


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

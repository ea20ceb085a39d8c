"""The person's `.wslconfig`: read, and changed in one line only."""

from __future__ import annotations

import pytest

from wsl_bootstrap.wslconfig import memory_value, parse_size, with_memory


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("[wsl2]\nmemory=8GB\n", "8GB"),
        ("[WSL2]\r\n  Memory = 4096  # too small\r\n", "4096"),
        ("[experimental]\nmemory=1GB\n[wsl2]\nswap=0\n", None),
        ("[wsl2]\n#memory=1GB\nmemory=2GB\n", "2GB"),
        ("memory=1GB\n", None),
    ],
)
def test_reading(text: str, value: str | None) -> None:
    assert memory_value(text) == value


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("8GB", 8 * 2**30),
        ("512 mb", 2**29),
        ("4096", 4096),
        ("<4GB>", None),
        ("", None),
        ("50%", None),
        ("8G", None),
    ],
)
def test_sizes(value: str, size: int | None) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[wsl2]\r\nmemory=8GB\r\n"),
        ("[wsl2]\nmemory=1GB\n", "[wsl2]\nmemory=8GB\n"),
        ("[wsl2]\nswap=0", "[wsl2]\nmemory=8GB\nswap=0\n"),
        (
            "# mine\r\n[experimental]\r\nx=1\r\n",
            "# mine\r\n[experimental]\r\nx=1\r\n[wsl2]\r\nmemory=8GB\r\n",
        ),
        ("[wsl2]\nswap=0\n[other]\nmemory=1GB\n", "[wsl2]\nmemory=8GB\nswap=0\n[other]\nmemory=1GB\n"),
    ],
)
def test_changing(before: str, after: str) -> None:
    assert with_memory(before, 8) == after
    assert with_memory(after, 8) == after
    assert memory_value(after) == "8GB"

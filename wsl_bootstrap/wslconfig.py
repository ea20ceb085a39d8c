"""The memory limit in `.wslconfig`, the file by which a person limits WSL's virtual machine.

It is the person's: other keys, comments and line ends stay as they are.
"""

from __future__ import annotations

import re

_SECTION = re.compile(r"^\s*\[(?P<name>[^]]+)]")
_MEMORY = re.compile(r"^\s*memory\s*=\s*(?P<value>[^#\r\n]*?)\s*(?:#.*)?$", re.IGNORECASE)
_UNITS = {"": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
TINY_BYTES = 2**30  # a machine with less does not start in time


def memory_value(text: str) -> str | None:
    """Return what the file gives as memory, as it is written; None when it gives nothing."""
    for line in _lines_of_wsl2(text):
        if found := _MEMORY.match(line):
            return found["value"]
    return None


def parse_size(value: str) -> int | None:
    """Return a size such as 8GB in bytes; a number without a unit counts bytes; None for anything else."""
    found = re.fullmatch(r"(\d+)\s*([KMGT]B)?", value.strip(), re.IGNORECASE)
    return int(found[1]) * _UNITS[(found[2] or "").upper()] if found else None


def with_memory(text: str, gigabytes: int) -> str:
    """Return the file's text with this memory limit and nothing else changed."""
    end = "\r\n" if "\r\n" in text or not text else "\n"
    line, lines = f"memory={gigabytes}GB", text.splitlines()
    section = ""
    header = None
    for place, old in enumerate(lines):
        if found := _SECTION.match(old):
            section = found["name"].strip().lower()
            header = place if section == "wsl2" else header
        elif section == "wsl2" and _MEMORY.match(old):
            lines[place] = line
            return end.join(lines) + end
    if header is None:
        return end.join([*lines, "[wsl2]", line]) + end
    return end.join([*lines[: header + 1], line, *lines[header + 1 :]]) + end


def _lines_of_wsl2(text: str) -> list[str]:
    section, found = "", []
    for line in text.splitlines():
        if header := _SECTION.match(line):
            section = header["name"].strip().lower()
        elif section == "wsl2":
            found.append(line)
    return found

"""Reads a long run's events many at a time: half a million of them in a second or two."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from trainer.contract.events import VERSION, Event, decode, from_json

# Parsed in one go; the interpreter is not free for the window meanwhile.
_BLOCK_BYTES = 2**20


def read_blocks(path: Path) -> Iterator[tuple[int, list[Event] | list[dict[str, Any]]]]:
    """Yield what stands in an events file, in order: how many bytes it took, and either other events or
    steps as the JSON that they are. A half-written last line is left to whoever follows the file.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES) + file.readline():
            block = block[: block.rfind(b"\n") + 1]
            yield len(block), []
            yield from ((0, found) for found in _parse(block))


def _parse(block: bytes) -> Iterator[list[Event] | list[dict[str, Any]]]:
    try:
        raws = orjson.loads(b"[" + block.rstrip(b"\n").replace(b"\n", b",") + b"]")
    except ValueError:  # foreign output between the events
        yield [event for line in block.splitlines(keepends=True) if (event := decode(line)) is not None]
        return
    for is_step, group in groupby(raws, _is_step):
        some = list(group)
        yield some if is_step else [event for raw in some if (event := from_json(raw)) is not None]


def _is_step(raw: Any) -> bool:
    """Whether it is the event of a step as the trainer writes it."""
    return (
        type(raw) is dict
        and raw.get("t") == "step"
        and raw.get("v") == VERSION
        and type(raw.get("seq")) is int
        and type(raw.get("step")) is int
        and type(raw.get("ts")) in (float, int)
    )

"""A document on its way from a file to tokens: a text in pieces, or the segments of a template."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trainer.contract.data_terms import Remark, Shape
from trainer.data.templates import Segment


class BadRecordError(Exception):
    """A line or record that is no document; `str()` is the reason."""


@dataclass(frozen=True, slots=True)
class Document:
    """One training document.

    Attributes:
        content: a text in pieces, to be read before the next document is asked for; or template segments,
            which say themselves what counts.
        shape: what its record was recognised as.
        place: where it begins, to be shown: a line number, or a path.
        remarks: what was noticed in its record; a text's own are found while it is read.
    """

    content: Iterator[str] | tuple[Segment, ...]
    shape: Shape = "text"
    place: str = ""
    remarks: frozenset[Remark] = frozenset()

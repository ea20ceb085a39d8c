"""Models and adapters on disk, as the trainer's `models` command tells of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.contract.errors import Problem

Kind = Literal["base", "merged", "adapter", "gguf", "refused"]
# What `Workspace.merged_model_path` writes.
_MERGED = re.compile(r"(?P<base>.+)-LoRA-(?P<run>\d{8}-\d{6}-.+?)-(?P<step>\d+)(-\d+)?")


@dataclass(frozen=True, slots=True)
class ShelfEntry:
    """One file. What its kind does not have is None.

    Attributes:
        is_state: whether an adapter is a tuned state, which is mounted as one.
        origin: where it came from: (base, run, step), as far as names and metadata tell.
        problem: why the file is of no use, for one that is refused.
    """

    path: Path
    kind: Kind
    size_bytes: int
    modified_ts: float
    generation: str | None = None
    parameters: int | None = None
    dtype: str | None = None
    rank: int | None = None
    origin: tuple[str, str, int | None] | None = None
    problem: Problem | None = None
    is_state: bool = False

    @property
    def name(self) -> str:
        """The file's name; a checkpoint's files all have the same, so that tells its run and step."""
        if self.kind == "adapter" and self.path.parent.parent.name == "ckpt":
            return f"{self.path.parents[2].name} · {int(self.path.parent.name)}"
        return self.path.name

    @property
    def is_model(self) -> bool:
        """Whether it can be trained from and talked to."""
        return self.kind in ("base", "merged")


def shelf_entry(raw: Mapping[str, Any]) -> ShelfEntry:
    """An entry of the command's JSON."""
    path = Path(raw["path"])
    size_bytes, modified_ts = int(raw["bytes"]), float(raw["modified_ts"])
    if raw["kind"] == "refused":
        problem = Problem(raw["code"], dict(raw["args"]))
        return ShelfEntry(path, "refused", size_bytes, modified_ts, problem=problem)
    if raw["kind"] == "gguf":
        return ShelfEntry(path, "gguf", size_bytes, modified_ts)
    if raw["kind"] == "adapter":
        run = path.parents[2].name if path.parent.parent.name == "ckpt" else ""
        origin = (raw.get("base") or "", run, raw.get("step"))
        return ShelfEntry(
            path, "adapter", size_bytes, modified_ts, raw.get("generation"), raw.get("parameters"),
            next(iter(raw.get("dtypes") or ()), None), raw.get("r"), origin if any(origin) else None,
            is_state="state" in (raw.get("method"), raw.get("writer")),
        )  # fmt: skip
    merged = _MERGED.fullmatch(path.stem)
    origin = (merged["base"], merged["run"], int(merged["step"])) if merged else None
    return ShelfEntry(
        path, "merged" if merged else "base", size_bytes, modified_ts, raw["generation"],
        raw["parameters"], raw["dtype"], origin=origin,
    )  # fmt: skip

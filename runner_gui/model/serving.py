"""What a model server is asked to load, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """One model to serve.

    Attributes:
        adapter: put on the model, not merged.
        state: tuned states that every text begins with.
        alpha: of an adapter whose file does not tell it.
        device, precision: as `rwkv-trainer serve` knows them.
        port: 0 takes a free one; a busy one too.
        api_key: None draws one that only this window knows; "" asks nobody for any.
        sampling: of requests that leave it open, as OpenAI's API names it.
    """

    model: Path
    adapter: Path | None = None
    state: Path | None = None
    alpha: float | None = None
    device: str = "auto"
    precision: str = "auto"
    host: str = "127.0.0.1"
    port: int = 0
    api_key: str | None = None
    sampling: tuple[tuple[str, float], ...] = ()

"""What an adapter file says of itself: a uint8 tensor in the file, and a JSON sidecar beside it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 1
# The key contains "lora", so mergers that drop every key with that word drop it too.
META_KEY = "lora_meta"


class AdapterMeta(BaseModel):
    """Metadata of an adapter.

    `r` and `alpha` are those of the file's factors: the update of a matrix is `alpha / r * B @ A`, whatever
    the method, so that a tool that asks for alpha is told the right one. They are None where nothing is
    scaled. `quant` is what the base's projections were quantised to in training.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    method: str
    r: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    quant: Literal["nf4", "int8"] | None = None
    parts: tuple[str, ...] = ()
    generation: str
    n_layer: int
    n_embd: int
    base_name: str
    base_bytes: int
    base_sha256: str
    run_id: str
    step: int
    epoch: int
    tokens: int
    loss: float | None = None
    trainer: str

"""What an adapter file says of itself: a uint8 tensor in the file, and a JSON sidecar beside it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

FORMAT_VERSION = 1
# The key contains "lora", so mergers that drop every key with that word drop it too.
META_KEY = "lora_meta"


class AdapterMeta(BaseModel):
    """Metadata of an adapter.

    `alpha`, `r` and `scale` are those of training: the update of a matrix is `scale * B @ A`, with
    `scale = alpha / r`. For method "full" they are None and every tensor replaces the base's.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format_version: int = FORMAT_VERSION
    method: str
    r: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
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

    @property
    def scale(self) -> float | None:
        return None if self.alpha is None or self.r is None else self.alpha / self.r

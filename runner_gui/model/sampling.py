"""How answers are drawn, as pages keep it and as the server takes it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# (least, most) of each number, as the server takes them.
BOUNDS: dict[str, tuple[float, float]] = {
    "max_tokens": (1, 100_000),
    "temperature": (0, 5),
    "top_p": (0, 1),
    "top_k": (0, 65_536),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "penalty_decay": (0, 1),
}


def _bounded(name: str, default: float) -> Any:
    least, most = BOUNDS[name]
    return Field(default, ge=least, le=most)


class Sampling(BaseModel):
    """Sampling and ends; the defaults are RWKV's usual ones for chats.

    Attributes:
        seed: None draws another one for each answer.
        stop: texts that end an answer; one that is all digits is a token's number.
    """

    model_config = ConfigDict(extra="ignore", validate_assignment=True, allow_inf_nan=False)

    max_tokens: int = _bounded("max_tokens", 2000)
    temperature: float = _bounded("temperature", 1.0)
    top_p: float = _bounded("top_p", 0.3)
    top_k: int = _bounded("top_k", 0)
    presence_penalty: float = _bounded("presence_penalty", 0.0)
    frequency_penalty: float = _bounded("frequency_penalty", 0.4)
    penalty_decay: float = _bounded("penalty_decay", 0.996)
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: list[str] = Field(default_factory=list, max_length=32)

    def body(self) -> dict[str, Any]:
        """The fields of a request."""
        fields = self.model_dump(exclude={"stop"}, exclude_none=True)
        texts = [text for text in self.stop if text and not text.isdecimal()]
        tokens = [int(text) for text in self.stop if text.isdecimal()]
        return {
            **fields,
            **({"stop": texts} if texts else {}),
            **({"stop_token_ids": tokens} if tokens else {}),
        }

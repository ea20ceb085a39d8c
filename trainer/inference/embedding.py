"""A text as a vector: what the model's last layer holds of it at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.inference.engine import Engine
from trainer.inference.generation import FinishReason
from trainer.inference.reading import Reading


@dataclass(frozen=True, slots=True)
class Embedded:
    """A finished vector.

    Attributes:
        vector: float32 [C], of length 1; None where the work was given up.
    """

    vector: NDArray[np.float32] | None
    finish_reason: FinishReason


class Embedding:
    """A text to be read to its end, as steps of bounded work beside other answers.

    The vector is the last block's channel-mixing input at the last token, normalised: last-token pooling, as
    decoder models are used for retrieval (Wang et al. 2023, arXiv:2401.00368). No RWKV was trained for that,
    so its neighbours are those of meaning and wording together.

    Args:
        engine: the model.
        tokens: at least one.
    """

    def __init__(self, engine: Engine, tokens: Sequence[int]) -> None:
        self._engine = engine
        # Texts to be searched rarely begin alike; their states would drive out those of conversations.
        self._reading = Reading(engine, tokens)
        self.finish_reason: FinishReason | None = None

    @property
    def reading(self) -> bool:
        return self._reading.in_prompt

    def step(self) -> Embedded | None:
        """Read a part of the text (None); behind the last one, the vector."""
        self._reading.step()
        if self._reading.in_prompt:
            return None
        vector = self._engine.last_hidden(self._reading.state)
        self.finish_reason = "stop"
        return Embedded(vector / max(float(np.linalg.norm(vector)), 1e-12), "stop")

    def cancel(self) -> Embedded:
        self.finish_reason = "cancelled"
        return Embedded(None, "cancelled")

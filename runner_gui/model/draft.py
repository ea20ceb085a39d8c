"""The text of the Completion page, kept from one day to the next."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from runner_gui.model.sampling import Sampling


class Draft(BaseModel):
    """A text, and how it is gone on with."""

    model_config = ConfigDict(extra="ignore")

    version: Literal[1] = 1
    text: str = ""
    sampling: Sampling = Field(default_factory=lambda: Sampling(max_tokens=500))

"""A conversation with a model: what was said, and with which settings."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runner_gui.model.sampling import Sampling

Thinking = Literal["free", "off", "on"]
TITLE_CHARS = 60
_THOUGHT = re.compile(r"\A\s*<think>.*?(</think>|\Z)\s*", re.DOTALL)
# What an answer begins with, as the G1 models know it.
_BEGUN: dict[Thinking, str] = {"free": "", "off": "<think>\n</think>\n", "on": "<think>"}


class Turn(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["user", "assistant"]
    content: str


class ChatSettings(BaseModel):
    """What a chat is set to, and what a preset holds.

    Attributes:
        thinking: whether the model decides if it thinks first, has to, or may not.
    """

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    system: str = ""
    thinking: Thinking = "free"
    sampling: Sampling = Field(default_factory=Sampling)


def _new_id() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"


class Conversation(BaseModel):
    """What is kept of a conversation.

    Attributes:
        title: "" takes the first words that the person said.
        model: the name of what answered last.
    """

    model_config = ConfigDict(extra="ignore")

    version: Literal[1] = 1
    id: str = Field(default_factory=_new_id)
    title: str = ""
    created_ts: float = Field(default_factory=time.time)
    changed_ts: float = Field(default_factory=time.time)
    model: str = ""
    settings: ChatSettings = Field(default_factory=ChatSettings)
    turns: list[Turn] = Field(default_factory=list)

    def name(self) -> str:
        """The title, or the first words; "" for a conversation without either."""
        if self.title:
            return self.title
        said = next((turn.content for turn in self.turns if turn.role == "user"), "")
        line = " ".join(said.split())
        return line if len(line) <= TITLE_CHARS else f"{line[: TITLE_CHARS - 1]}…"

    def holds(self, words: str) -> bool:
        """Whether every word is somewhere in it."""
        text = "\n".join((self.title, self.model, self.settings.system, *(t.content for t in self.turns)))
        text = text.casefold()
        return all(word in text for word in words.casefold().split())

    def messages(self) -> list[dict[str, str]]:
        """What the server is asked with: earlier thoughts are left out, as their models were trained."""
        system = self.settings.system.strip()
        messages = [{"role": "system", "content": system}] if system else []
        for turn in self.turns:
            content = without_thought(turn.content) if turn.role == "assistant" else turn.content
            messages.append({"role": turn.role, "content": content})
        if begun := self.begun():
            messages.append({"role": "assistant", "content": begun})
        return messages

    def begun(self) -> str:
        """What the next answer begins with."""
        return _BEGUN[self.settings.thinking]

    def body(self) -> dict[str, Any]:
        """A request for the next answer."""
        return {**self.settings.sampling.body(), "messages": self.messages()}

    def as_markdown(self, user: str, model: str) -> str:
        """The conversation to read; `user` and `model` are what the two are called."""
        names = {"user": user, "assistant": model}
        parts = [f"# {self.name()}"] if self.name() else []
        if self.settings.system.strip():
            quoted = "\n".join(f"> {line}" for line in self.settings.system.strip().splitlines())
            parts.append(quoted)
        parts += [f"## {names[turn.role]}\n\n{turn.content.strip()}" for turn in self.turns]
        return "\n\n".join(parts) + "\n"


def without_thought(text: str) -> str:
    return _THOUGHT.sub("", text, count=1)

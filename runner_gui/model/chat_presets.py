"""Presets of chats and of texts to go on with: those of the person, in one file, shared as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runner_gui.model import stored
from runner_gui.model.conversation import ChatSettings, Turn
from runner_gui.model.sampling import Sampling
from trainer.contract.errors import AppError
from trainer.contract.files import write_json


class Preset(BaseModel):
    """Settings under a name.

    Attributes:
        turns: what a chat begins with.
        text: what a completion begins with.
    """

    model_config = ConfigDict(extra="ignore")

    version: Literal[1] = 1
    kind: Literal["chat", "text"]
    name: str = Field(min_length=1, max_length=120)
    settings: ChatSettings = Field(default_factory=ChatSettings)
    turns: list[Turn] = Field(default_factory=list)
    text: str = ""


class PresetFile(BaseModel):
    """What is on disk."""

    version: Literal[1] = 1
    presets: list[Preset] = Field(default_factory=list)


class PresetStore:
    """The person's presets. What cannot be understood is set aside and replaced by nothing.

    Args:
        path: of the file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.presets = stored.load(path, PresetFile).presets

    def of(self, kind: str) -> list[Preset]:
        return [preset for preset in self.presets if preset.kind == kind]

    def put(self, preset: Preset) -> None:
        """Keep a preset; one of the same kind and name gives way.

        Raises:
            AppError: `disk_full` or `not_writable`.
        """
        self.remove(preset.kind, preset.name, save=False)
        self.presets.append(preset)
        self._write()

    def remove(self, kind: str, name: str, *, save: bool = True) -> None:
        self.presets = [p for p in self.presets if (p.kind, p.name) != (kind, name)]
        if save:
            self._write()

    def _write(self) -> None:
        write_json(self._path, PresetFile(presets=self.presets).model_dump(mode="json"))


def read_preset(path: Path) -> Preset:
    """A preset from a file of ours, or of RWKV-Runner.

    Raises:
        AppError: `chat_file_unreadable`.
    """
    try:
        raw = json.loads(path.read_bytes())
        if not isinstance(raw, dict):
            raise ValueError("not an object")
        return Preset.model_validate(raw if "kind" in raw else _of_runner(raw))
    except (OSError, ValueError, RecursionError) as error:
        raise AppError("chat_file_unreadable", path=str(path)) from error


_RUNNER_SAMPLING = {
    "maxResponseToken": "max_tokens", "temperature": "temperature", "topP": "top_p",
    "presencePenalty": "presence_penalty", "frequencyPenalty": "frequency_penalty",
    "penaltyDecay": "penalty_decay",
}  # fmt: skip


def _of_runner(raw: dict[str, Any]) -> dict[str, Any]:
    """RWKV-Runner's presets: of chats (`messages`), and of completions (`prompt`, `params`)."""
    params = given if isinstance(given := raw.get("params"), dict) else {}
    sampling: dict[str, Any] = {ours: params[k] for k, ours in _RUNNER_SAMPLING.items() if k in params}
    if isinstance(params.get("stop"), str) and params["stop"]:
        sampling["stop"] = [part.replace("\\n", "\n") for part in params["stop"].split(",") if part]
    checked = Sampling.model_validate(sampling).model_dump()
    if isinstance(raw.get("prompt"), str) and "messages" not in raw:
        return {
            "kind": "text", "name": raw.get("name"), "text": raw["prompt"], "settings": {"sampling": checked},
        }  # fmt: skip
    messages = raw.get("messages")
    if not isinstance(messages, list):
        raise ValueError("neither messages nor a prompt")
    said = [m for m in messages if isinstance(m, dict) and isinstance(m.get("content"), str)]
    return {
        "kind": "chat",
        "name": raw.get("name"),
        "settings": {
            "system": "\n".join(m["content"] for m in said if m.get("role") == "system"),
            "sampling": checked,
        },
        "turns": [m for m in said if m.get("role") in ("user", "assistant")],
    }


def write_preset(path: Path, preset: Preset) -> None:
    """Write one preset to a file of its own.

    Raises:
        AppError: `disk_full` or `not_writable`.
    """
    write_json(path, preset.model_dump(mode="json"))

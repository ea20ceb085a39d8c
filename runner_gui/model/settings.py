"""The window's settings: one small versioned JSON file that may always be lost without harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from runner_gui.model import stored
from trainer.contract.files import write_json

VERSION = 1
RECENT_LIMIT = 10
SCALES = (75, 100, 125, 150, 175, 200)  # percent of the size that the system asks for


class Settings(BaseModel):
    """What the window remembers between starts.

    `interpreter` "" means the app's own Python, `models_folder` "" that of the work folder.
    `asked_for` is the work that was begun last, to be gone on with where a restart came between.
    """

    model_config = ConfigDict(extra="ignore", validate_assignment=True)

    version: Literal[1] = VERSION
    language: Literal["system", "en", "zh_CN", "ja"] = "system"
    theme: Literal["system", "light", "dark"] = "system"
    advanced_form: bool = False
    preset: str = "demo"
    last_params: dict[str, Any] = Field(default_factory=dict)
    geometry: str = ""
    recent_data: list[str] = Field(default_factory=list)
    recent_models: list[str] = Field(default_factory=list)
    interpreter: str = ""
    notifications: bool = True
    scale: int = Field(default=100, ge=50, le=300)
    guide_seen: bool = False
    models_folder: str = ""
    asked_for: Literal["", "train", "set_up"] = ""

    def note_data(self, path: str) -> None:
        """Put a data path in front of the recent ones."""
        self.recent_data = _in_front(path, self.recent_data)

    def note_model(self, path: str) -> None:
        """Put a model path in front of the recent ones."""
        self.recent_models = _in_front(path, self.recent_models)


def load(path: Path) -> Settings:
    """The stored settings, or the defaults; a file that cannot be understood is kept beside."""
    return stored.load(path, Settings)


def save(settings: Settings, path: Path) -> None:
    """Write the settings, whole or not at all.

    Raises:
        AppError: `not_writable` or `disk_full`.
    """
    write_json(path, settings.model_dump(mode="json"))


def _in_front(item: str, items: list[str]) -> list[str]:
    return [item, *(other for other in items if other != item)][:RECENT_LIMIT]

"""The work folder: where runs, merged models, converted data and settings lie; and the bundled demo."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import platformdirs

import runner_gui
from trainer.contract.files import disk_error
from trainer.contract.params import PARAMS

APP_FOLDER = "RwkvLoraRunner"
HOME_VARIABLE = "RUNNER_HOME"
MODEL_SUFFIXES = (".pth", ".safetensors")


def default_root() -> Path:
    """The user's data folder of this app, or what the environment variable RUNNER_HOME says."""
    if override := os.environ.get(HOME_VARIABLE):
        return Path(override).expanduser().absolute()
    return Path(platformdirs.user_data_dir(APP_FOLDER, appauthor=False))


def assets_folder() -> Path:
    """The bundled files: inside the package when installed, beside it in a checkout."""
    package = Path(runner_gui.__file__).resolve().parent
    installed = package / "assets"
    return installed if installed.is_dir() else package.parent / "assets"


class Workspace:
    """Paths of one work folder. Making one touches nothing; `prepare` makes the folders.

    Args:
        root: the work folder; by default that of the user.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root).absolute() if root is not None else default_root()
        self.runs = self.root / "runs"
        self.own_models = self.models = self.root / "models"
        self.cache = self.root / "cache"
        self.journal_file = self.root / "journal.json"
        self.queue_file = self.root / "queue.json"
        self.settings_file = self.root / "settings.json"
        self.chats = self.root / "chats"
        self.presets_file = self.root / "presets.json"
        self.draft_file = self.root / "completion.json"
        self.catalogue_file = self.root / "catalogue.json"
        self.downloads_file = self.root / "downloads.json"
        self.configurations_file = self.root / "configurations.json"

    def use_models_folder(self, folder: str) -> None:
        """Models lie here from now on, merged ones too; "" means the work folder's own. Nothing is moved."""
        self.models = Path(folder).expanduser().absolute() if folder else self.own_models

    def prepare(self) -> None:
        """Make the folders that are not there.

        Raises:
            AppError: `not_writable` or `disk_full`.
        """
        for folder in (self.runs, self.models, self.cache):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(None, "permission denied")
            except OSError as error:
                raise disk_error(error, folder) from error

    @property
    def demo_folder(self) -> Path:
        return assets_folder() / "demo"

    def demo_model(self) -> Path | None:
        """The bundled base model, or None where the app came without it."""
        return _first(self.demo_folder, MODEL_SUFFIXES)

    def demo_data(self) -> Path | None:
        """The bundled sample data, or None where the app came without it."""
        return _first(self.demo_folder, (".jsonl",))

    def demo_style(self) -> dict[str, Any] | None:
        """What the sample data teaches: the prompts to try and the marks of its style."""
        return _read_json(self.demo_folder / "style.json")

    def demo_params(self) -> dict[str, Any]:
        """Parameters with which the demo trains in minutes, its model and data included where bundled."""
        stored = _read_json(self.demo_folder / "params.json") or {}
        values = {name: value for name, value in stored.items() if name in PARAMS}
        if (model := self.demo_model()) is not None:
            values["base_model"] = str(model)
        if (data := self.demo_data()) is not None:
            values["data"] = str(data)
        return values

    def base_models(self) -> list[Path]:
        """Every model file to choose from: those of the models folder by name, then the demo's."""
        found: list[Path] = []
        if self.models.is_dir():
            found = sorted(path for path in self.models.iterdir() if _is_model(path))
        demo = self.demo_model()
        return [*found, demo] if demo is not None else found

    def merged_model_path(self, base: Path, run_id: str, step: int) -> Path:
        """Where a merge of a run's checkpoint goes; a number is added as long as the name is taken."""
        stem = f"{base.stem}-LoRA-{run_id}-{step}"
        path = self.models / f"{stem}.pth"
        number = 2
        while path.exists():
            path = self.models / f"{stem}-{number}.pth"
            number += 1
        return path


def _is_model(path: Path) -> bool:
    return path.suffix in MODEL_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _first(folder: Path, suffixes: tuple[str, ...]) -> Path | None:
    if not folder.is_dir():
        return None
    return next((path for path in sorted(folder.iterdir()) if path.suffix in suffixes), None)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return raw if isinstance(raw, dict) else None

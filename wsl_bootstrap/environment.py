"""Which Python environment set-up is about, and the choices a person has in making it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_data_path

DISTRIBUTION = "rwkv-lora-runner"
APP_FOLDER = "RwkvLoraRunner"
PYTHON_VERSIONS = ((3, 10), (3, 13))  # the oldest and the newest that every dependency has wheels for
TORCH_INDEX_VARIABLE = "RUNNER_TORCH_INDEX"  # as scripts/run reads it
_PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Environment:
    """The environment that trains.

    Paths are those of the Linux side. `base_python` makes the environment when there is none; `source` is
    what pip installs our own packages from (a folder with the project, or a requirement); `torch` says
    whether the build of torch follows the GPU ("auto") or never needs one ("cpu").
    """

    folder: Path
    base_python: str = sys.executable
    source: str = str(_PROJECT) if (_PROJECT / "pyproject.toml").is_file() else DISTRIBUTION
    torch: str = "auto"

    @property
    def python(self) -> str:
        """The environment's interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def source_folder(self) -> Path | None:
        """The project's folder, when our packages are installed from one."""
        folder = Path(self.source)
        return folder if (folder / "pyproject.toml").is_file() else None

    def requirement(self, extra: str = "") -> tuple[str, ...]:
        """Return pip's arguments for our own packages, with an extra."""
        suffix = f"[{extra}]" if extra else ""
        return ("-e", self.source + suffix) if self.source_folder else (self.source + suffix,)

    def tested_versions(self) -> tuple[str, ...]:
        """Return pip's arguments for the versions that our tests pass with, where they are at hand."""
        constraints = Path(self.source) / "constraints.txt"
        return ("-c", str(constraints)) if self.source_folder and constraints.is_file() else ()

    def pip_install(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Return the command that installs into this environment."""
        return (self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments)


@dataclass(frozen=True)
class SetupOptions:
    """What a person may choose about downloads. None leaves the tools' own defaults."""

    index_url: str | None = None  # a mirror of the package index
    # Where builds of torch without CUDA are.
    cpu_index_url: str | None = field(default_factory=lambda: os.environ.get(TORCH_INDEX_VARIABLE))


def current_environment() -> Environment:
    """Return the environment we run in, or one of our own when we run in the system's Python."""
    in_venv = sys.prefix != sys.base_prefix
    return Environment(Path(sys.prefix) if in_venv else user_data_path(APP_FOLDER, appauthor=False) / "venv")

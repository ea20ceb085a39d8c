"""The choices a person has in setting up, and the file that keeps them."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from platformdirs import user_config_path

from wsl_bootstrap.files import write_whole
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.mirrors import CUSTOM, MIRRORS, OFFICIAL, Mirror

LOG = logging.getLogger(__name__)
DEFAULT_SYSTEM = "Ubuntu-24.04"
TORCH_INDEX_VARIABLE = "RUNNER_TORCH_INDEX"  # as scripts/run reads it


def options_file() -> Path:
    """Return where choices are kept unless told otherwise."""
    return user_config_path("RwkvLoraRunner", appauthor=False) / "setup.json"


@dataclass(frozen=True)
class SetupOptions:
    """What a person may choose. None leaves a default that the tools or this program have."""

    index_url: str | None = None  # a Python package index; goes before the mirror's
    # Where builds of torch without CUDA are.
    cpu_index_url: str | None = field(default_factory=lambda: os.environ.get(TORCH_INDEX_VARIABLE))
    mirror: str = OFFICIAL  # a key of MIRRORS, or "custom"
    custom: Mirror = field(default_factory=Mirror)
    proxy: str | None = None  # http://host:port, for everything that is downloaded
    # On Windows: which distribution trains; and of our own, its folder and the file it is made of.
    distribution: str = OWN_DISTRIBUTION
    system: str = DEFAULT_SYSTEM  # what our own is made of, by its name in `wsl --list --online`
    folder: str | None = None
    rootfs: str | None = None

    @property
    def source(self) -> Mirror:
        """The addresses of the chosen mirror, with what was given by hand before them."""
        chosen = self.custom if self.mirror == CUSTOM else MIRRORS.get(self.mirror, MIRRORS[OFFICIAL])
        return replace(chosen, packages=self.index_url) if self.index_url else chosen

    def pip_arguments(self) -> tuple[str, ...]:
        """Return what pip is told about where to look."""
        packages = self.source.packages
        index = ("--index-url", packages) if packages else ()
        return (*index, *(("--proxy", self.proxy) if self.proxy else ()))

    def save(self, path: Path) -> None:
        """Keep the choices; what the environment decides (the index of torch) is not one."""
        kept = {name: value for name, value in asdict(self).items() if name != "cpu_index_url"}
        write_whole(path, json.dumps(kept, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: Path) -> SetupOptions:
        """Return the choices in a file, or the defaults where it has none or is not understood."""
        try:
            kept = json.loads(path.read_text("utf-8"))
            known = {entry.name for entry in fields(cls)} - {"cpu_index_url"}
            chosen = {name: value for name, value in kept.items() if name in known}
            return cls(**{**chosen, "custom": Mirror(**chosen.get("custom", {}))})
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, AttributeError) as problem:
            LOG.warning("choices in %s are not understood: %s", path, problem)
            return cls()

"""Where the manual lies: a Markdown file a page and language, bundled with the app."""

from __future__ import annotations

from pathlib import Path

import runner_gui

FALLBACK = "en"
EXTRA = ("keys",)  # chapters that are no page's


def manual_folder() -> Path:
    """The bundled manual: inside the package when installed, in `docs` in a checkout."""
    package = Path(runner_gui.__file__).resolve().parent
    installed = package / "manual"
    return installed if installed.is_dir() else package.parent / "docs" / "manual"


def chapter(name: str, language: str) -> Path:
    """The file of a chapter in a language, or in English where it is not in that one."""
    path = manual_folder() / language / f"{name}.md"
    return path if path.is_file() else manual_folder() / FALLBACK / f"{name}.md"

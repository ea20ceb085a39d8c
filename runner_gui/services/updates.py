"""Whether there is a newer version than the one that runs, asked only when a person wants to know."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import runner_gui

Answer = Literal["current", "newer", "package", "unreachable"]
_TIMEOUT_S = 20.0


def checkout() -> Path:
    """The folder that the app runs from."""
    return Path(runner_gui.__file__).resolve().parents[1]


def look_for_update(root: Path | None = None) -> Answer:
    """Compare a checkout with where it was cloned from. For a worker thread.

    Returns:
        `package` where this is no checkout, so that whatever installed it has to be asked; `unreachable`
        where there is no answer.
    """
    root = root or checkout()
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return "package"
    # "HEAD" of the other side is its default branch; what was committed here on top of it is no older.
    theirs = _git(git, root, "ls-remote", "--quiet", "origin", "HEAD").partition("\t")[0]
    if not theirs:
        return "unreachable"
    return "current" if _git(git, root, "merge-base", "--is-ancestor", theirs, "HEAD") == "yes" else "newer"


def _git(git: str, root: Path, *args: str) -> str:
    """What git says, or "yes" where it says nothing; "" where it fails."""
    try:
        done = subprocess.run(
            [git, "-C", str(root), *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},  # nobody would see its question
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode("utf-8", errors="replace").strip() or "yes"

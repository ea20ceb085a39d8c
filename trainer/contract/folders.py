"""Where the trainer keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """RUNNER_CACHE, or the user's cache folder; it may not exist yet."""
    return Path(os.environ.get("RUNNER_CACHE") or platformdirs.user_cache_path("RwkvLoraRunner"))

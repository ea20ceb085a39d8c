"""Small JSON files of the window's own, read so that a broken one costs only what it held."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

LOG = logging.getLogger(__name__)
Stored = TypeVar("Stored", bound=BaseModel)


def load(path: Path, kind: type[Stored]) -> Stored:
    """What is stored, or the defaults; a file that cannot be understood is kept beside."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return kind()
    except OSError as error:
        LOG.warning("%s cannot be read: %s", path, error)
        return kind()
    try:
        return kind.model_validate(json.loads(raw))
    except (ValueError, RecursionError, ValidationError) as error:
        aside = path.with_name(path.name + ".unreadable")
        LOG.warning("%s is not understood (%s); kept as %s", path, error, aside.name)
        try:
            path.replace(aside)
        except OSError as problem:
            LOG.warning("%s cannot be set aside: %s", path, problem)
        return kind()

"""The trainer's half of the catalogue: sentences by key, in each language of the app."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Any

LANGUAGES = ("en", "zh_CN", "ja")


@lru_cache(maxsize=len(LANGUAGES))
def catalogue(language: str) -> dict[str, str]:
    """All sentences of one language, keyed `error.<code>.title` or `param.<name>.label`."""
    return json.loads(resources.files(__name__).joinpath(f"{language}.json").read_text(encoding="utf-8"))


def text(key: str, language: str = "en", **args: Any) -> str:
    """The sentence of a key with its arguments filled in.

    Raises:
        KeyError: the key is not in the catalogue, or an argument is missing.
    """
    sentence = catalogue(language)[key]
    return sentence.format(**args) if args else sentence

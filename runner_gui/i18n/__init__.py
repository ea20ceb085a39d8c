"""Every sentence that the window shows, by key, in the language that the person reads."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from PySide6.QtCore import QLocale, QObject, Signal

from trainer.contract import texts as trainer_texts

log = logging.getLogger(__name__)

LANGUAGES = trainer_texts.LANGUAGES
LANGUAGE_NAMES = {"en": "English", "zh_CN": "简体中文", "ja": "日本語"}  # each as who reads it calls it
LanguageChoice = Literal["system", "en", "zh_CN", "ja"]


class _Language(QObject):
    """The language in use.

    Signals:
        changed(): another language was set; whoever shows text shows it anew.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.code = "en"


_language = _Language()
language_changed = _language.changed


@lru_cache(maxsize=len(LANGUAGES))
def catalogue(code: str) -> dict[str, str]:
    """All sentences of one language: the window's, the trainer's and the set-up's."""
    merged: dict[str, str] = dict(trainer_texts.catalogue(code))
    for package in ("wsl_bootstrap.texts", __name__):
        merged.update(_read(package, code))
    return merged


def _read(package: str, code: str) -> dict[str, str]:
    source = resources.files(package).joinpath(f"{code}.json")
    return json.loads(source.read_text(encoding="utf-8"))


def language() -> str:
    """The code of the language in use, one of `LANGUAGES`."""
    return _language.code


def set_language(choice: str) -> None:
    """Show everything in this language from now on; "system" means the system's."""
    code = system_language() if choice == "system" else choice
    if code not in LANGUAGES:
        raise ValueError(f"no catalogue for {code!r}")
    if code != _language.code:
        _language.code = code
        _language.changed.emit()


def system_language() -> str:
    """Chinese or Japanese where the system speaks it, else English."""
    spoken = {QLocale.Language.Chinese: "zh_CN", QLocale.Language.Japanese: "ja"}
    return spoken.get(QLocale.system().language(), "en")


def has(key: str) -> bool:
    """Whether there is a sentence for this key."""
    return key in catalogue(_language.code)


def tr(key: str, **args: Any) -> str:
    """The sentence of a key in the language in use, with its arguments filled in.

    A missing sentence or argument is logged and never raises: a window with one odd word still works.
    """
    sentence = catalogue(_language.code).get(key)
    if sentence is None:
        log.error("no sentence for %r in %s", key, _language.code)
        return key
    if not args:
        return sentence
    try:
        return sentence.format(**args)
    except (KeyError, IndexError, ValueError):
        log.exception("the sentence %r does not take %s", key, sorted(args))
        return sentence

"""The sentences of set-up, in every language; the window merges them into its own catalogue.

Keys: `step.<id>.name`, `setup.state.<state>`, `setup.<code>.title|why|fix`, and `setup.cli.*` for the
command line.
"""

from __future__ import annotations

import json
import locale
import os
from collections.abc import Mapping
from pathlib import Path

from wsl_bootstrap.codes import Code

LANGUAGES = ("en", "zh_CN", "ja")
# How the names of a locale begin, on Linux and on Windows.
_LOCALES = {"zh": "zh_CN", "chinese": "zh_CN", "ja": "ja"}
CODE_PARTS = ("title", "why", "fix")


def load_texts(language: str) -> dict[str, str]:
    """Return every text of one of LANGUAGES by its key."""
    return json.loads(Path(__file__).with_name(f"{language}.json").read_text("utf-8"))


def system_language() -> str:
    """Return which of LANGUAGES the person's locale asks for, English if none."""
    named = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    locale_name = (named or locale.getlocale()[0] or "").lower()
    return next((code for begin, code in _LOCALES.items() if locale_name.startswith(begin)), "en")


def code_text(texts: Mapping[str, str], code: Code, part: str) -> str:
    """Return one of CODE_PARTS of a code, with its facts filled in."""
    return texts[f"setup.{code.id}.{part}"].format(**code.args)

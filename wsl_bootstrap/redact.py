"""Takes out of a text what nobody should have to show: name, home folder, tokens and passwords."""

from __future__ import annotations

import getpass
import re
from pathlib import Path

_SECRETS = (
    (re.compile(r"(?<=://)[^/\s@]+@"), "***@"),  # user and password of an address
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), r"\1 ***"),
    (re.compile(r"(?i)\b([\w-]*(?:token|secret|passw(?:or)?d|api[-_]?key))(\s*[=:]\s*)\S+"), r"\1\2***"),
    (re.compile(r"\b(?:hf|ghp|gho|github_pat|sk)[_-]\w{8,}"), "***"),
)
_SHARED_NAMES = frozenset({"root", "user", "admin", "administrator"})  # say nothing of whose computer it is


def redact(text: str, *, home: str | None = None, user: str | None = None) -> str:
    """Return the text with `~` for the home folder, `<user>` for its owner, and `***` for secrets.

    Args:
        text: anything that programs printed.
        home: the home folder; by default that of this process.
        user: its owner's name; by default that of this process.
    """
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    home = str(Path.home()) if home is None else home
    user = _user() if user is None else user
    if len(home) > 1:
        # Windows compares names without regard to case, and JSON doubles its backslashes.
        for written in (home, home.replace("\\", "\\\\"), home.replace("\\", "/")):
            text = re.sub(rf"{re.escape(written)}(?![\w.-])", "~", text, flags=re.IGNORECASE)
    if user and user.lower() not in _SHARED_NAMES:
        text = re.sub(rf"(?<!\w){re.escape(user)}(?!\w)", "<user>", text, flags=re.IGNORECASE)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without an entry for us
        return ""

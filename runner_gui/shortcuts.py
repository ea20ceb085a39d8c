"""The keyboard map: one table, from which the keys are made and the help tells them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import QWidget

# Action -> its keys, the first of which is told. Ctrl and a digit, for the pages, come on top.
KEYS: Mapping[str, tuple[str, ...]] = {
    "primary": ("Ctrl+Return", "Ctrl+Enter"),
    "stop": ("Ctrl+.",),
    "save": ("Ctrl+S",),
    "log": ("Ctrl+L",),
    "recheck": ("F5",),
    "help": ("F1",),
    "settings": ("Ctrl+,",),
    "messages": ("Ctrl+M",),
}


def add_shortcuts(window: QWidget, actions: Mapping[str, Callable[[], object]]) -> None:
    """Give every action of the table its keys.

    Raises:
        KeyError: the table and the actions differ.
    """
    if set(actions) != set(KEYS):
        raise KeyError(set(actions) ^ set(KEYS))
    for name, action in actions.items():
        for keys in KEYS[name]:
            QShortcut(QKeySequence(keys), window).activated.connect(action)

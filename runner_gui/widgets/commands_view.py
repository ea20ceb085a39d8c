"""Commands as a person would type them: selectable, wrapped wherever they must, as high as they need."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from PySide6.QtGui import QResizeEvent, QTextOption
from PySide6.QtWidgets import QPlainTextEdit, QWidget

_MAX_LINES = 9


def command_line(argv: Sequence[str]) -> str:
    """Return the line for a shell; what names a Windows program is for that of Windows."""
    windows = argv[0][1:3] == ":\\" or argv[0].lower().endswith(".exe")
    return subprocess.list2cmdline(argv) if windows else shlex.join(argv)


class CommandsView(QPlainTextEdit):
    """A few commands, one a paragraph; hidden while there are none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("log")
        self.setReadOnly(True)
        self.setWordWrapMode(QTextOption.WrapMode.WrapAnywhere)
        self.hide()

    def show_commands(self, commands: Sequence[Sequence[str]]) -> None:
        self.show_text("\n".join(map(command_line, commands)))

    def show_text(self, text: str) -> None:
        """Show lines that are commands already."""
        if text != self.toPlainText():
            self.setPlainText(text)
        self.setVisible(bool(text))
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        lines = min(max(1, round(self.document().size().height())), _MAX_LINES)
        self.setFixedHeight(lines * self.fontMetrics().lineSpacing() + 20)

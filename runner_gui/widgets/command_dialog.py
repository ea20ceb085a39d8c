"""The command that the button would run, to be read and copied."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QWidget

from runner_gui.widgets.commands_view import CommandsView, command_line
from runner_gui.widgets.dialogs import Sheet

_WIDTH = 640


class CommandDialog(Sheet):
    """Shows one argv as a line for this computer's shell."""

    def __init__(self, argv: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__("command", parent)
        self.setMinimumWidth(_WIDTH)
        self.line = command_line(argv)
        self.view = CommandsView()
        self.content.addWidget(self.view)
        self.view.show_text(self.line)
        self.shut = self.add_button("dialog.close")
        self.copy = self.add_button("command.copy", main=True)
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.line))
        self.shut.clicked.connect(self.accept)
        self.retranslate()

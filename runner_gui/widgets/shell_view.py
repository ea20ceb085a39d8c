"""The terminal tab: what a shell in the environment prints, and a line for what it is to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QTextCursor
from PySide6.QtWidgets import QLineEdit, QPlainTextEdit, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.services.shell import EnvironmentShell, open_terminal
from runner_gui.widgets.controls import button, label, row
from wsl_bootstrap.hosts.base import Host

MAX_LINES = 5000
MAX_HISTORY = 200


class ShellView(QWidget):
    """Starts its shell with the first line that is sent; a shell that ended starts anew with the next.

    Args:
        host: where the shell runs.
        environment: tells the folder of the Python environment, on the Linux side.

    Signals:
        no_terminal(): the system has no terminal to open.
    """

    no_terminal = Signal()

    def __init__(
        self, host: Host, environment: Callable[[], PurePath], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._host, self._environment = host, environment
        self._shell: EnvironmentShell | None = None
        self._history: list[str] = []
        self._place = 0
        self.help = label("help", wrap=True)
        self.text = QPlainTextEdit()
        self.text.setObjectName("log")
        self.text.setReadOnly(True)
        self.text.setMaximumBlockCount(MAX_LINES)
        self.entry = QLineEdit()
        self.entry.setObjectName("command_entry")
        self.run, self.interrupt = button(), button()
        self.window_button = button("link")
        self.clear_button = button("link")
        self._lay_out()
        self.entry.installEventFilter(self)
        self.entry.returnPressed.connect(self.submit)
        self.run.clicked.connect(self.submit)
        self.interrupt.clicked.connect(self._interrupt)
        self.clear_button.clicked.connect(self.text.clear)
        self.window_button.clicked.connect(self._open_window)
        language_changed.connect(self.retranslate)
        self.retranslate()
        self._show_state()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 8, 0, 0)
        column.setSpacing(8)
        head = row(self.help, self.clear_button, self.window_button)
        head.setStretch(0, 1)
        column.addLayout(head)
        column.addWidget(self.text, 1)
        line = row(self.entry, self.run, self.interrupt)
        line.setStretch(0, 1)
        column.addLayout(line)

    def submit(self) -> None:
        """Send the line that was typed."""
        line = self.entry.text()
        if not line.strip():
            return
        self.entry.clear()
        self._history = [*(old for old in self._history if old != line), line][-MAX_HISTORY:]
        self._place = len(self._history)
        self._print(f"$ {line}\n")
        self._running_shell().send(line)
        self._show_state()

    def close_shell(self) -> None:
        """End the shell and what it runs."""
        if self._shell is not None:
            self._shell.close()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Up and down walk through what was typed before; Ctrl+C without a selection interrupts."""
        if watched is not self.entry or not isinstance(event, QKeyEvent) or event.type() != _PRESSED:
            return super().eventFilter(watched, event)
        if event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self._recall(-1 if event.key() == Qt.Key.Key_Up else 1)
            return True
        control = event.modifiers() == Qt.KeyboardModifier.ControlModifier
        if control and event.key() == Qt.Key.Key_C and not self.entry.hasSelectedText():
            self._interrupt()
            return True
        return super().eventFilter(watched, event)

    def retranslate(self) -> None:
        self.help.setText(tr("terminal.help"))
        self.entry.setPlaceholderText(tr("terminal.entry"))
        self.entry.setAccessibleName(tr("terminal.entry"))
        self.text.setPlaceholderText(tr("terminal.empty"))
        self.text.setAccessibleName(tr("environment.terminal"))
        self.run.setText(tr("terminal.run"))
        self.interrupt.setText(tr("terminal.interrupt"))
        self.clear_button.setText(tr("terminal.clear"))
        self.window_button.setText(tr("terminal.window"))

    def _running_shell(self) -> EnvironmentShell:
        if self._shell is None or not self._shell.is_running:
            self._shell = EnvironmentShell(self._host, self._environment(), self)
            self._shell.printed.connect(self._print)
            self._shell.ended.connect(self._on_ended)
            self._shell.start()
        return self._shell

    def _print(self, text: str) -> None:
        bar = self.text.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        cursor = QTextCursor(self.text.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(text)
        if at_end:
            bar.setValue(bar.maximum())

    def _recall(self, step: int) -> None:
        self._place = min(max(0, self._place + step), len(self._history))
        self.entry.setText(self._history[self._place] if self._place < len(self._history) else "")

    def _interrupt(self) -> None:
        if self._shell is not None:
            self._shell.interrupt()

    def _on_ended(self) -> None:
        self._print(tr("terminal.ended") + "\n")
        self._show_state()

    def _show_state(self) -> None:
        self.interrupt.setEnabled(self._shell is not None and self._shell.is_running)

    def _open_window(self) -> None:
        if not open_terminal(self._host, self._environment()):
            self.no_terminal.emit()


_PRESSED = QEvent.Type.KeyPress

"""What the programs print: appended in batches, at most so many lines, the file always at hand."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QCheckBox, QPlainTextEdit, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import ElidedLabel, button, row

MAX_LINES = 5000
BATCH_MS = 100


class LogView(QWidget):
    """A read-only view of lines, with a follow switch."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.text = QPlainTextEdit()
        self.text.setObjectName("log")
        self.text.setReadOnly(True)
        self.text.setMaximumBlockCount(MAX_LINES)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.WidgetWidth)
        self.follow = QCheckBox()
        self.follow.setChecked(True)
        self.copy = button("link")
        self.open = button("link")
        self.path = ElidedLabel()
        self.path.setObjectName("caption")
        self._file: Path | None = None
        self._pending: list[str] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(BATCH_MS)
        self._timer.timeout.connect(self.flush)
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.text.toPlainText()))
        self.open.clicked.connect(self._open_file)
        self.follow.toggled.connect(self._on_follow)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(4)
        box.addWidget(self.text, 1)
        foot = row(self.follow, self.path, self.copy, self.open)
        foot.setStretch(1, 1)
        box.addLayout(foot)
        language_changed.connect(self.retranslate)
        self.retranslate()
        self.set_file(None)

    def append(self, line: str) -> None:
        """Show one more line, together with those that come within a tenth of a second."""
        self._pending.append(line)
        del self._pending[:-MAX_LINES]
        if not self._timer.isActive():
            self._timer.start()

    def flush(self) -> None:
        """Show the lines that wait."""
        self._timer.stop()
        if not self._pending:
            return
        batch, self._pending = self._pending, []
        bar = self.text.verticalScrollBar()
        before = bar.value()
        self.text.appendPlainText("\n".join(batch))
        bar.setValue(bar.maximum() if self.follow.isChecked() else before)

    def clear(self) -> None:
        self._pending.clear()
        self.text.clear()

    def set_file(self, path: Path | None) -> None:
        """The file that holds the whole log."""
        self._file = path
        self.path.set_full_text(str(path) if path is not None else "")
        self.open.setEnabled(path is not None)

    def retranslate(self) -> None:
        self.follow.setText(tr("log.follow"))
        self.copy.setText(tr("log.copy"))
        self.open.setText(tr("log.open"))
        self.text.setAccessibleName(tr("tabs.log"))
        self.text.setPlaceholderText(tr("log.empty"))

    def _on_follow(self, follow: bool) -> None:
        if follow:
            bar = self.text.verticalScrollBar()
            bar.setValue(bar.maximum())

    def _open_file(self) -> None:
        if self._file is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._file)))

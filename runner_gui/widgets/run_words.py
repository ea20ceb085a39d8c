"""A person's own name and note for a run: two fields that keep what is typed."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QLineEdit, QPlainTextEdit, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import label
from trainer.contract.errors import AppError
from trainer.contract.run_folder import RunFolder, RunNotes

KEEP_AFTER_MS = 600


class RunWords(QWidget):
    """Writes into the folder of the run that is shown, also when another one is shown right after.

    Signals:
        kept(): something was written. failed(object): a Problem.
    """

    kept = Signal()
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._folder: RunFolder | None = None
        self._written = RunNotes()
        self.name, self.note = QLineEdit(), QPlainTextEdit()
        self._name_label, self._note_label = label("caption"), label("caption")
        self._name_label.setBuddy(self.name)
        self._note_label.setBuddy(self.note)
        self.note.setFixedHeight(64)
        self.note.setTabChangesFocus(True)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for widget in (self._name_label, self.name, self._note_label, self.note):
            column.addWidget(widget)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(KEEP_AFTER_MS)
        self._timer.timeout.connect(self.keep)
        self.name.editingFinished.connect(self.keep)
        self.note.textChanged.connect(self._timer.start)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_run(self, folder: RunFolder | None) -> None:
        """Show this run's words; what is being typed for it is left alone."""
        typing = self._timer.isActive() or self.name.hasFocus() or self.note.hasFocus()
        if folder == self._folder and typing:
            return
        self.keep()
        self._folder = folder
        self._written = RunNotes() if folder is None else folder.notes()
        self.name.setText(self._written.name)
        self.note.setPlainText(self._written.note)
        self._timer.stop()

    def keep(self) -> None:
        """Write what was typed, if it is something else than before."""
        self._timer.stop()
        notes = RunNotes(name=self.name.text().strip(), note=self.note.toPlainText().strip())
        if self._folder is None or notes == self._written:
            return
        try:
            self._folder.write_notes(notes)
        except AppError as error:
            self.failed.emit(error.problem)
            return
        self._written = notes
        self.kept.emit()

    def retranslate(self) -> None:
        self._name_label.setText(tr("runs.own_name"))
        self._note_label.setText(tr("runs.note"))
        self.note.setPlaceholderText(tr("runs.note_hint"))

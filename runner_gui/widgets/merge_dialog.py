"""Merging a checkpoint into a model of its own: name, disk need, what the checkpoint says; then use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Signal, SignalInstance
from PySide6.QtWidgets import QLineEdit, QProgressBar, QWidget

from runner_gui.i18n import tr
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import button, label, restyle
from runner_gui.widgets.dialogs import Sheet, facts_table
from runner_gui.widgets.merge_options import MergeOptions
from runner_gui.widgets.problem_text import problem_line
from trainer.contract.errors import Problem
from trainer.contract.run_folder import safe_name
from wsl_bootstrap.codes import Code


@dataclass(frozen=True, slots=True)
class MergeFacts:
    """What the dialog tells before it merges; alpha and r come from the checkpoint, never from the form."""

    checkpoint: Path
    step: int
    base_name: str
    output: Path
    need_bytes: int
    free_bytes: int
    alpha: float | None
    r: int | None


class MergeDialog(Sheet):
    """Asks for the name, shows progress, and at the end offers to use the model.

    Signals:
        merge_requested(str, object): merge into this file, with these further flags, a tuple of texts.
        use_requested(str), show_requested(str): the merged file is to be used, or shown in its folder.
    """

    merge_requested = Signal(str, object)
    use_requested = Signal(str)
    show_requested = Signal(str)

    def __init__(self, facts: MergeFacts, parent: QWidget | None = None) -> None:
        super().__init__("merge", parent, step=fmt.whole(facts.step))
        self.facts = facts
        self.setMinimumWidth(520)
        self._output: Path | None = None
        self.name_label = label()
        self.name = QLineEdit(facts.output.stem)
        self.name_label.setBuddy(self.name)
        self.name_label.setText(tr("merge.name"))
        self.note = label("red", wrap=True)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.status = label("caption", wrap=True)
        strength = fmt.NONE
        if facts.alpha is not None and facts.r is not None:
            strength = tr("merge.strength_value", alpha=f"{facts.alpha:g}", r=facts.r)
        self.content.addWidget(self.name_label)
        self.content.addWidget(self.name)
        self.content.addWidget(self.note)
        self.content.addLayout(
            facts_table(
                {
                    "merge.base": facts.base_name,
                    "merge.strength": strength,
                    "merge.disk": tr(
                        "merge.disk_value", need=fmt.size(facts.need_bytes), free=fmt.size(facts.free_bytes)
                    ),
                    "merge.folder": str(facts.output.parent),
                }
            )
        )
        self.advanced = button("link")
        self.advanced.setCheckable(True)
        self.options = MergeOptions()
        self.options.hide()
        self.content.addWidget(self.advanced)
        self.content.addWidget(self.options)
        self.content.addWidget(self.progress)
        self.content.addWidget(self.status)
        self.cancel = self.add_button("dialog.cancel")
        self.show_button = self.add_button("action.show")
        self.merge = self.add_button("merge.merge", main=True)
        self.use = self.add_button("merge.use")
        for hidden in (self.progress, self.status, self.show_button, self.use):
            hidden.hide()
        self.cancel.clicked.connect(self.reject)
        self.merge.clicked.connect(self._on_merge)
        self.use.clicked.connect(lambda: self._finish(self.use_requested))
        self.show_button.clicked.connect(lambda: self.show_requested.emit(str(self._output)))
        self.name.textChanged.connect(self._check)
        self.options.changed.connect(self._check)
        self.advanced.toggled.connect(self._on_advanced)
        self.retranslate()
        self._check()

    def output(self) -> Path:
        """The file that the name stands for."""
        return self.facts.output.parent / f"{safe_name(self.name.text(), 200)}{self.options.suffix}"

    def retranslate(self) -> None:
        super().retranslate()
        self.advanced.setText(tr("form.advanced"))
        self.options.retranslate()

    def show_progress(self, done: int, total: int | None) -> None:
        self.progress.setRange(0, total or 0)
        self.progress.setValue(done)

    def show_phase(self, sentence: str) -> None:
        self.status.setText(sentence)

    def show_merged(self, path: str) -> None:
        """The model is there: offer it."""
        self._output = Path(path)
        # A .gguf is for llama.cpp; there is nothing here that talks through it.
        is_ours = self._output.suffix != ".gguf"
        self._key = "merged"
        self.say(name=self._output.name)
        self.progress.setRange(0, 1)
        self.progress.setValue(1)
        self.merge.hide()
        self.status.hide()
        self.cancel.setText(tr("dialog.close"))
        self._keys[self.cancel] = "dialog.close"
        self.show_button.show()
        self.use.setObjectName("confirm")
        self.use.setDefault(True)
        restyle(self.use, "shown", "yes")
        self.use.setVisible(is_ours)
        (self.use if is_ours else self.show_button).setFocus()
        self.fit()

    def show_failed(self, problem: Problem | Code) -> None:
        """The merge did not work: say why, and allow another try."""
        self.note.setText(problem_line(problem))
        self.note.show()
        self.progress.hide()
        self.status.hide()
        self._enable(True)
        self.merge.setEnabled(True)
        self.fit()

    def _check(self) -> None:
        facts = self.facts
        sentence = ""
        if not self.name.text().strip():
            sentence = tr("merge.name_missing")
        elif self.output().exists():
            sentence = tr("merge.name_taken")
        elif facts.need_bytes > facts.free_bytes:
            sentence = tr("merge.disk_short")
        self.note.setText(sentence)
        self.note.setVisible(bool(sentence))
        self.merge.setEnabled(not sentence)

    def _on_merge(self) -> None:
        self._enable(False)
        self.merge.setEnabled(False)
        self.note.hide()
        self.progress.setRange(0, 0)
        self.progress.show()
        self.status.setText(tr("phase.merging"))
        self.status.show()
        self.fit()
        self.merge_requested.emit(str(self.output()), self.options.flags())

    def _on_advanced(self, shown: bool) -> None:
        self.options.setVisible(shown)
        self.fit()

    def _enable(self, enabled: bool) -> None:
        self.name.setEnabled(enabled)
        self.options.setEnabled(enabled)

    def _finish(self, signal: SignalInstance) -> None:
        self.accept()
        signal.emit(str(self._output))

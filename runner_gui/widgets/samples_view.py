"""Sample answers side by side: before training, and as the model answers at a step of it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from PySide6.QtCore import QSignalBlocker
from PySide6.QtWidgets import QTextEdit, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.model.series import Sample
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import CalmComboBox, label, row


class SamplesView(QWidget):
    """For each prompt what came first, what came at the chosen step, and what the data says there."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.step_label, self.steps = label("caption"), CalmComboBox()
        self.step_label.setBuddy(self.steps)
        self.text = QTextEdit()
        self.text.setReadOnly(True)
        self.text.setObjectName("log")
        self._samples: Sequence[Sample] = ()
        self._shown: tuple[object, ...] = ()
        self._follows = True  # the newest step, until another one is chosen
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addLayout(row(self.step_label, self.steps, 1))
        column.addWidget(self.text, 1)
        self.steps.activated.connect(self._on_step)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self.retranslate)
        self.retranslate()

    def show_samples(self, samples: Sequence[Sample]) -> None:
        """Show these answers; cheap where nothing has changed."""
        if list(samples) == list(self._samples):
            return
        self._samples = list(samples)
        self._fill_steps()
        self._show()

    def retranslate(self) -> None:
        self.step_label.setText(tr("samples.step"))
        self._fill_steps()
        self._show()

    def _fill_steps(self) -> None:
        chosen, steps = self.steps.currentData(), sorted({sample.step for sample in self._samples})
        with QSignalBlocker(self.steps):
            self.steps.clear()
            for step in steps:
                self.steps.addItem(fmt.whole(step), step)
            newest = len(steps) - 1
            self.steps.setCurrentIndex(newest if self._follows else max(0, self.steps.findData(chosen)))
        self.steps.setVisible(len(steps) > 1)
        self.step_label.setVisible(len(steps) > 1)

    def _on_step(self, index: int) -> None:
        self._follows = index == self.steps.count() - 1
        self._show()

    def _show(self) -> None:
        if not self._samples:
            self.text.setPlainText(tr("samples.empty"))
            return
        place = self.text.verticalScrollBar().value()
        self.text.setHtml("".join(self._block(prompt) for prompt in self._prompts()))
        self.text.verticalScrollBar().setValue(place)

    def _prompts(self) -> list[str]:
        return list(dict.fromkeys(sample.prompt for sample in self._samples))

    def _block(self, prompt: str) -> str:
        """One prompt; side by side what came first, what came at the chosen step, and the data's answer."""
        of_prompt = [sample for sample in self._samples if sample.prompt == prompt]
        first, step = of_prompt[0], self.steps.currentData()
        now = next((sample for sample in reversed(of_prompt) if sample.step == step), None)
        shown = [first] if now is None or now.step == first.step else [first, now]
        titles = [_title(sample) for sample in shown]
        texts = [sample.text for sample in shown]
        if first.reference is not None:
            titles.append(tr("samples.reference"))
            texts.append(first.reference)
        width = 100 // len(titles)
        muted = theme.color("muted").name()
        heads = "".join(
            f'<td width="{width}%"><span style="color:{muted}">{escape(t)}</span></td>' for t in titles
        )
        cells = "".join(f'<td width="{width}%">{_lines(text)}</td>' for text in texts)
        rows = f"<tr>{heads}</tr><tr>{cells}</tr>"
        table = f'<table width="100%" cellspacing="0" cellpadding="3">{rows}</table>'
        return f"<p><b>{_lines(prompt)}</b></p>{table}<br>"


def _title(sample: Sample) -> str:
    if sample.step == 0:
        return tr("samples.before")
    return tr("samples.at", step=fmt.whole(sample.step))


def _lines(text: str) -> str:
    return escape(text.strip("\n")).replace("\n", "<br>")

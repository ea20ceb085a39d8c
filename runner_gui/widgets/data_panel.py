"""What the chosen data was recognised as, what is in it, what is doubtful, and its first samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtGui import QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QFormLayout, QLabel, QProgressBar, QTextEdit, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.model.problems import AnyProblem, sentence_key
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import Card, ElidedLabel, button, label, row
from trainer.contract.errors import Problem

FACTS = ("shapes", "documents", "tokens", "lengths", "fits", "steps", "duplicates", "doubtful")
_END_OF_DOCUMENT = "∎"
_MAX_PLACES = 5


class DataPanel(Card):
    """A card about the data; empty until a report comes.

    Signals:
        cancel_requested(): give the report up.
        ctx_len_chosen(int): the recommended context length is to be taken.
    """

    cancel_requested = Signal()
    ctx_len_chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = ElidedLabel()
        self.name.setObjectName("title")
        self.state = label("muted", wrap=True)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.cancel, self.take = button("link"), button("link")
        self.names = {fact: label("muted") for fact in FACTS}
        self.values: dict[str, QLabel] = {fact: label(wrap=True) for fact in FACTS}
        self.samples_title, self.legend = label("step_name"), label("muted", wrap=True)
        self.samples = QTextEdit()
        self.samples.setReadOnly(True)
        self.samples.setObjectName("log")
        self._report: Mapping[str, Any] | None = None
        self._problem: AnyProblem | None = None
        self._working = False
        self._lay_out()
        self.cancel.clicked.connect(self.cancel_requested)
        self.take.clicked.connect(self._on_take)
        language_changed.connect(self.retranslate)
        theme.theme.changed.connect(self._show_samples)
        self.retranslate()

    def _lay_out(self) -> None:
        head = row(self.name, self.cancel)
        head.setStretch(0, 1)
        facts = QFormLayout()
        facts.setHorizontalSpacing(16)
        for fact in FACTS:
            facts.addRow(self.names[fact], self.values[fact])
        self.body.addLayout(head)
        self.body.addWidget(self.state)
        self.body.addWidget(self.bar)
        self.body.addLayout(facts)
        self.body.addLayout(row(self.take, 1))
        self.body.addWidget(self.samples_title)
        self.body.addWidget(self.legend)
        self.body.addWidget(self.samples, 1)

    # What there is to show

    def show_work(self, path: str) -> None:
        """A report on this data has begun."""
        self._report, self._problem, self._working = None, None, True
        self.name.set_full_text(path)
        self.bar.setRange(0, 0)
        self.retranslate()

    def show_progress(self, done_bytes: int, total_bytes: int) -> None:
        # Qt counts in 32 bits, files do not.
        self.bar.setRange(0, 1000 if total_bytes else 0)
        self.bar.setValue(round(1000 * done_bytes / max(total_bytes, 1)))
        self.state.setText(tr("data.reading", done=fmt.size(done_bytes), total=fmt.size(total_bytes)))

    def show_report(self, report: Mapping[str, Any]) -> None:
        self._report, self._working = report, False
        self.retranslate()

    def show_problem(self, problem: AnyProblem) -> None:
        """The data cannot be used as it is set."""
        self._problem, self._working = problem, False
        self.retranslate()

    def show_cancelled(self) -> None:
        self._working = False
        self.retranslate()

    def retranslate(self) -> None:
        report = self._report
        self.cancel.setText(tr("data.cancel"))
        self.cancel.setVisible(self._working)
        self.bar.setVisible(self._working)
        self.state.setText(self._state())
        self.state.setVisible(bool(self.state.text()))
        for fact in FACTS:
            words = "" if report is None else _fact(fact, report)
            self.names[fact].setText(tr(f"data.{fact}"))
            self.values[fact].setText(words)
            self.names[fact].setVisible(bool(words))
            self.values[fact].setVisible(bool(words))
        best = None if report is None else report["recommended_ctx_len"]
        self.take.setVisible(report is not None and best != report["ctx_len"])
        self.take.setText(tr("data.take", n=fmt.whole(best)))
        for widget in (self.samples_title, self.legend, self.samples):
            widget.setVisible(report is not None)
        self.samples_title.setText(tr("data.samples"))
        self.legend.setText(tr("data.legend"))
        self._show_samples()

    def _state(self) -> str:
        if self._working:
            return tr("data.working")
        problem = self._problem
        if problem is None and self._report is not None:
            # Where nothing can be learned, the last problem says why.
            found = self._report["problems"] if self._report["plan"] is None else ()
            problem = Problem(found[-1]["code"], found[-1]["args"]) if found else None
        if problem is None:
            return "" if self._report is not None else tr("data.cancelled")
        key, args = sentence_key(problem), dict(problem.args)
        return " ".join((tr(f"{key}.title", **args), tr(f"{key}.fix", **args)))

    def _on_take(self) -> None:
        if self._report is not None:
            self.ctx_len_chosen.emit(self._report["recommended_ctx_len"])

    def _show_samples(self) -> None:
        """Every second token has a ground of its own, so that ends are seen; what counts is coloured."""
        self.samples.clear()
        cursor = self.samples.textCursor()
        for number, sample in enumerate(() if self._report is None else self._report["samples"], start=1):
            words = tr("data.sample", n=number, tokens=fmt.whole(sample["tokens"]))
            cursor.insertText(f"{words}\n", _format("muted"))
            for i, (text, counts) in enumerate(zip(sample["texts"], sample["counts"], strict=True)):
                ground = "selected" if i % 2 else ""
                cursor.insertText(
                    text or _END_OF_DOCUMENT, _format("accent_text" if counts else "text", ground)
                )
            more = sample["tokens"] > len(sample["texts"])
            cursor.insertText(" …\n\n" if more else "\n\n", _format("muted"))
        self.samples.moveCursor(QTextCursor.MoveOperation.Start)


def _format(role: str, ground: str = "") -> QTextCharFormat:
    out = QTextCharFormat()
    out.setForeground(theme.color(role))
    out.setFontUnderline(role == "accent_text")  # never told by the colour alone
    if ground:
        out.setBackground(theme.color(ground))
    return out


def _fact(fact: str, report: Mapping[str, Any]) -> str:
    """What a line says; empty where there is nothing to say."""
    if fact == "shapes":
        shapes = tr("list.separator").join(
            tr("data.shape", name=tr(f"shape.{name}"), n=fmt.whole(n)) for name, n in report["shapes"].items()
        )
        return f"{', '.join(report['formats'])} · {shapes}"
    if fact == "documents":
        left_out = tr("data.left_out", n=fmt.whole(report["skipped"])) if report["skipped"] else ""
        return fmt.whole(report["documents"]) + left_out
    if fact == "tokens":
        return fmt.whole(report["tokens"])
    if fact == "lengths":
        names = ("shortest", "p50", "p90", "longest")
        return tr("data.lengths_are", **{name: fmt.whole(report["lengths"][name]) for name in names})
    if fact == "fits":
        share = f"{100 * report['fits_share']:.1f}"
        return tr("data.fits_are", percent=share, n=fmt.whole(report["ctx_len"]))
    if fact == "steps":
        plan = report["plan"]
        if plan is None:
            return ""
        return tr("data.steps_are", n=fmt.whole(plan["total_steps"]), passes=f"{plan['passes']:.1f}")
    if fact == "duplicates":
        return fmt.whole(report["duplicates"]["count"]) if report["duplicates"]["count"] else ""
    return "\n".join((*_remarks(report), *_skipped(report)))


def _remarks(report: Mapping[str, Any]) -> list[str]:
    """What was noticed, with the first lines or files of each."""
    return [
        tr(
            "data.remark",
            name=tr(f"remark.{name}"),
            n=fmt.whole(found["count"]),
            places=", ".join(found["places"][:_MAX_PLACES]),
        )
        for name, found in report["remarks"].items()
    ]


def _skipped(report: Mapping[str, Any]) -> list[str]:
    """The first lines that were left out, each with its reason."""
    found = [problem["args"] for problem in report["problems"] if problem["code"] == "data_line_skipped"]
    return [tr("data.skipped_line", line=args["line"], reason=args["reason"]) for args in found[:_MAX_PLACES]]

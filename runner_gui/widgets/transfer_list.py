"""The downloads that are under way: a bar each, how fast, how long still, pause and cancel."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.transfers import Transfer
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import Card, ElidedLabel, IconButton, label, row, scrolled
from runner_gui.widgets.problem_text import problem_line

MOST_HEIGHT = 176
STOPPED = ("paused", "failed")


def progress_words(one: Transfer) -> str:
    """How far, how fast, how long still, as far as that is known."""
    if one.state == "failed" and one.problem is not None:
        return problem_line(one.problem)
    facts = [tr(f"downloads.{one.state}")]
    if one.total_bytes is not None:
        facts.append(tr("downloads.progress", done=fmt.size(one.done_bytes), total=fmt.size(one.total_bytes)))
    elif one.done_bytes:
        facts.append(fmt.size(one.done_bytes))
    if one.bytes_s is not None:
        facts.append(tr("downloads.speed", speed=fmt.size(one.bytes_s)))
    if one.eta_s is not None:
        facts.append(tr("downloads.left", time=fmt.duration(one.eta_s)))
    return " · ".join(facts)


class _Row(QWidget):
    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name, self.words = ElidedLabel(), ElidedLabel()
        self.name.set_full_text(name)
        self.words.setObjectName("help")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setAccessibleName(name)
        self.pause, self.cancel = IconButton("pause", look="small"), IconButton("cross", look="small")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 8, 0)
        column.setSpacing(2)
        head = row(self.name, self.pause, self.cancel)
        head.setStretch(0, 1)
        column.addLayout(head)
        column.addWidget(self.bar)
        column.addWidget(self.words)

    def show_transfer(self, one: Transfer) -> None:
        self.words.set_full_text(progress_words(one))
        known = one.total_bytes or one.state in ("queued", *STOPPED)
        self.bar.setRange(0, 1000 if known else 0)
        self.bar.setValue(1000 * one.done_bytes // one.total_bytes if one.total_bytes else 0)
        stopped = one.state in STOPPED
        self.pause.set_icon("play" if stopped else "pause")
        self.pause.set_words(tr("downloads.do_resume" if stopped else "downloads.do_pause"))
        self.pause.setEnabled(one.state != "pausing")
        self.cancel.set_words(tr("downloads.do_cancel"))


class TransferList(Card):
    """Hidden while there is nothing in it.

    Signals:
        pause_requested, resume_requested, cancel_requested(str): the name of a file.
    """

    pause_requested = Signal(str)
    resume_requested = Signal(str)
    cancel_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title = label("title")
        self.rows: dict[str, _Row] = {}
        self._transfers: list[Transfer] = []
        inside = QWidget()
        inside.setObjectName("scroll_body")
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)
        self._scroll = scrolled(inside)
        self.body.addWidget(self.title)
        self.body.addWidget(self._scroll)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_transfers(self, transfers: Sequence[Transfer]) -> None:
        """Show these, in this order; a row that stays keeps its buttons, and so the focus."""
        self._transfers = list(transfers)
        wanted = [one.name for one in transfers]
        if list(self.rows) != wanted:
            self._arrange(wanted)
        for one in transfers:
            self.rows[one.name].show_transfer(one)
        self.setVisible(bool(transfers))

    def _arrange(self, wanted: Sequence[str]) -> None:
        old, self.rows = self.rows, {}
        for name in wanted:
            shown = old.pop(name, None) or self._make(name)
            self.rows[name] = shown
            self._column.addWidget(shown)
        for gone in old.values():
            gone.hide()
            gone.deleteLater()
        room = sum(shown.sizeHint().height() + 8 for shown in self.rows.values())
        self._scroll.setFixedHeight(min(MOST_HEIGHT, room))

    def _make(self, name: str) -> _Row:
        made = _Row(name)
        made.pause.clicked.connect(lambda: self._on_pause(name))
        made.cancel.clicked.connect(lambda: self.cancel_requested.emit(name))
        return made

    def _on_pause(self, name: str) -> None:
        one = next(t for t in self._transfers if t.name == name)
        (self.resume_requested if one.state in STOPPED else self.pause_requested).emit(name)

    def retranslate(self) -> None:
        self.title.setText(tr("downloads.queue"))
        self.show_transfers(self._transfers)

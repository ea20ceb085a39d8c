"""The messages of a conversation, following the answer that comes."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.services.talk import Talk
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import button, label, row
from runner_gui.widgets.message_view import MessageView

DRAW_EVERY_MS = 60
# As much as may be built between two looks at the person.
SLICE_S = 0.01
# Messages that are on screen at first; earlier ones come when they are asked for.
SHOWN = 40
NEAR_END_PX = 48
INDENT_PX = 48


class MessageList(QScrollArea):
    """Shows a talk; long ones are built in slices, and from their end.

    Attributes:
        views: those of the last turns.

    Signals:
        built: every message that is to be shown is there.
    """

    built = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.empty = label("muted", wrap=True)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.earlier = button("link")
        body = QWidget()
        body.setObjectName("scroll_body")
        self._column = QVBoxLayout(body)
        self._column.setContentsMargins(0, 0, 8, 0)
        self._column.setSpacing(8)
        self._column.addWidget(self.empty)
        self._column.addLayout(row(1, self.earlier, 1))
        self._column.addStretch(1)
        self.setWidget(body)
        self.views: list[MessageView] = []
        self._talk: Talk | None = None
        self._first = 0  # the number of the first turn that is shown
        self._coming: MessageView | None = None
        self._pending: list[str] = []
        self._follow = True
        self._drawing = QTimer(self)
        self._drawing.setInterval(DRAW_EVERY_MS)
        self._drawing.timeout.connect(self._draw)
        self._building = QTimer(self)
        self._building.timeout.connect(self._build)
        self.earlier.clicked.connect(self._show_earlier)
        bar = self.verticalScrollBar()
        bar.rangeChanged.connect(self._on_range)
        bar.valueChanged.connect(self._on_value)
        language_changed.connect(self._show_counts)

    @property
    def is_built(self) -> bool:
        return not self._building.isActive()

    def show_talk(self, talk: Talk) -> None:
        """Show this talk from now on."""
        if self._talk is not None:
            for signal, slot in self._links(self._talk):
                signal.disconnect(slot)
        self._talk = talk
        self._clear()
        self._first = max(0, len(talk.conversation.turns) - SHOWN)
        for signal, slot in self._links(talk):
            signal.connect(slot)
        self._on_turns()

    def _links(self, talk: Talk) -> list[tuple]:
        return [
            (talk.turns_changed, self._on_turns),
            (talk.text_received, self._on_text),
            (talk.measured, self._on_measured),
        ]

    def _on_turns(self) -> None:
        """Keep the views of turns that are still the same, and build the others."""
        talk = self._talk
        if talk is None:
            return
        turns = talk.conversation.turns
        if not talk.is_answering:
            self._end_coming()
        self._first = min(self._first, len(turns))
        kept = 0
        for view, turn in zip(self.views, turns[self._first :], strict=False):
            if view.turn is not turn or (view is not self._coming and view.shown != turn.content):
                break
            kept += 1
        self._drop_from(kept)
        self._follow = True
        self._show_counts()
        self._build()

    def _build(self) -> None:
        """Build messages for as long as nobody notices."""
        talk = self._talk
        if talk is None:
            return
        wanted, end = len(talk.conversation.turns) - self._first, time.monotonic() + SLICE_S
        while len(self.views) < wanted and time.monotonic() < end:
            self._add(self._first + len(self.views))
        if len(self.views) < wanted:
            self._building.start(0)
            return
        self._building.stop()
        for view in self.views:
            view.set_busy(talk.is_answering)
        self.built.emit()

    def _add(self, index: int) -> None:
        talk = self._talk
        assert talk is not None
        turn = talk.conversation.turns[index]
        view = MessageView(turn, talk.conversation.model)
        if talk.is_answering and index == len(talk.conversation.turns) - 1:
            view.begin(talk.answer_so_far())
            self._pending = []
            self._coming = view
            self._drawing.start()
        else:
            view.show_whole()
        # Slots that hold the view itself would let go of it in the middle of its own destructor.
        view.edited.connect(self._on_edited)
        view.again_requested.connect(self._on_again)
        view.remove_requested.connect(self._on_remove)
        line = QHBoxLayout()
        is_user = turn.role == "user"
        line.setContentsMargins(INDENT_PX if is_user else 0, 0, 0 if is_user else INDENT_PX, 0)
        line.addWidget(view)
        self._column.insertLayout(self._column.count() - 1, line)
        self.views.append(view)

    def _number(self) -> int:
        """The turn whose view has just asked for something."""
        return self._first + next(i for i, view in enumerate(self.views) if view is self.sender())

    def _on_edited(self, text: str, ask: bool) -> None:
        if self._talk is not None:
            self._talk.edit(self._number(), text, ask=ask)

    def _on_again(self) -> None:
        if self._talk is not None:
            self._talk.answer_again(self._number())

    def _on_remove(self) -> None:
        if self._talk is not None:
            self._talk.remove(self._number())

    def _on_text(self, piece: str) -> None:
        self._pending.append(piece)

    def _draw(self) -> None:
        if self._coming is not None and self._pending:
            text, self._pending = "".join(self._pending), []
            self._coming.append(text)

    def _end_coming(self) -> None:
        self._drawing.stop()
        if self._coming is not None:
            self._draw()
            self._coming.finish()
            self._coming = None
        self._pending = []

    def _on_measured(self, tokens: int, rate: float) -> None:
        if self.views:
            self.views[-1].set_measured(tokens, rate)

    def _show_earlier(self) -> None:
        self._clear()
        self._first = max(0, self._first - SHOWN)
        self._on_turns()
        self._follow = False

    def _show_counts(self) -> None:
        turns = len(self._talk.conversation.turns) if self._talk is not None else 0
        self.empty.setVisible(turns == 0)
        self.earlier.setVisible(self._first > 0)
        self.earlier.setText(tr("chat.earlier", count=fmt.whole(self._first)))

    def _clear(self) -> None:
        self._building.stop()
        self._drawing.stop()
        self._coming, self._pending = None, []
        self._drop_from(0)

    def _drop_from(self, first: int) -> None:
        while len(self.views) > first:
            view = self.views.pop()
            line = self._column.takeAt(self._column.count() - 2)
            if view is self._coming:
                self._coming = None
            view.hide()
            view.deleteLater()
            if line is not None and (layout := line.layout()) is not None:
                layout.deleteLater()

    def _on_range(self, _: int, maximum: int) -> None:
        if self._follow:
            self.verticalScrollBar().setValue(maximum)

    def _on_value(self, value: int) -> None:
        self._follow = value >= self.verticalScrollBar().maximum() - NEAR_END_PX

"""One message of a conversation, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.conversation import Turn
from runner_gui.model.message_parts import MessageParts
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.controls import ElidedLabel, IconButton, button, label, row
from runner_gui.widgets.message_parts_view import PartView, part_view
from runner_gui.widgets.writing_field import WritingField

EDIT_HEIGHT = 120
# Parts that are drawn between two looks at the person; most of their cost comes when they are laid out.
SLICE_PARTS = 2
ACTIONS = {"copy": "copy", "edit": "edit", "again": "reset", "remove": "cross"}


class MessageView(QFrame):
    """A turn: who says it, its parts, and buttons to copy, edit, answer again and delete.

    Args:
        name: of the model, for its turns.

    Signals:
        edited(str, bool): other words were put in its place; whether they are to be answered.
        again_requested, remove_requested: a button was pressed.
    """

    edited = Signal(str, bool)
    again_requested = Signal()
    remove_requested = Signal()

    def __init__(self, turn: Turn, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.turn = turn
        self.shown = ""  # the words that are on screen
        self._name = name
        self._measured: tuple[int, float] | None = None
        self.setObjectName("bubble_user" if turn.role == "user" else "bubble_model")
        self.who, self.facts = ElidedLabel(), label("caption")
        self.who.setObjectName("caption")
        self.buttons = {name: IconButton(icon, look="small", size=14) for name, icon in ACTIONS.items()}
        self.editor: WritingField | None = None
        self._edit_box: QWidget | None = None
        self._views: list[PartView] = []
        self._message = MessageParts()
        self._stale = 0  # the first part that is not drawn as it is
        self._body = QVBoxLayout()
        self._body.setSpacing(8)
        head = row(self.who, self.facts, *self.buttons.values(), spacing=2)
        head.setStretch(0, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 6, 8, 10)
        column.setSpacing(4)
        column.addLayout(head)
        column.addLayout(self._body)
        self.buttons["copy"].clicked.connect(self._copy)
        self.buttons["edit"].clicked.connect(self.begin_edit)
        self.buttons["again"].clicked.connect(self.again_requested)
        self.buttons["remove"].clicked.connect(self.remove_requested)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_whole(self) -> None:
        """Show the turn as it is, with nothing more to come."""
        self.begin(self.turn.content)
        self.finish()

    def begin(self, text: str = "") -> None:
        """Show a turn that is only beginning."""
        self._message = MessageParts()
        self._drop_from(0)
        self._stale = 0
        self.append(text)

    def append(self, text: str) -> None:
        """Show more of it; the cost is that of what changes."""
        self._update(self._message.append(text))

    def finish(self) -> None:
        """No more comes."""
        self.shown = self.turn.content
        changed = max(0, len(self._message.parts) - 1)
        self._message.finish()
        self._update(changed)

    def set_busy(self, busy: bool) -> None:
        """While an answer comes, the conversation stays as it is."""
        for name in ("edit", "again", "remove"):
            self.buttons[name].setEnabled(not busy)

    def set_measured(self, tokens: int, rate: float) -> None:
        """How long it is, and how many tokens a second came."""
        self._measured = tokens, rate
        self.retranslate()

    def begin_edit(self) -> None:
        """Put a field in place of the words."""
        if self.editor is not None:
            return
        self.editor = WritingField()
        self.editor.setPlainText(self.turn.content)
        self.editor.setFixedHeight(EDIT_HEIGHT)
        self.editor.setAccessibleName(tr("chat.do_edit"))
        save, cancel, ask = button(), button("flat"), button("confirm")
        save.setText(tr("chat.save"))
        cancel.setText(tr("primary.cancel"))
        ask.setText(tr("chat.save_and_ask"))
        ask.setVisible(self.turn.role == "user")
        save.clicked.connect(lambda: self._save_edit(ask=False))
        ask.clicked.connect(lambda: self._save_edit(ask=True))
        self.editor.sent.connect(lambda: self._save_edit(ask=self.turn.role == "user"))
        cancel.clicked.connect(self.end_edit)
        self.editor.left.connect(self.end_edit)
        self._edit_box = box = QWidget()
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 4, 0)
        column.addWidget(self.editor)
        column.addLayout(row(1, cancel, save, ask))
        for view in self._views:
            view.hide()
        self._body.addWidget(box)
        self.editor.setFocus()

    def end_edit(self) -> None:
        """Give the field up and show the words again."""
        if self._edit_box is not None:
            self._edit_box.hide()
            self._edit_box.deleteLater()
            self.editor = self._edit_box = None
            for view in self._views:
                view.show()

    def _save_edit(self, *, ask: bool) -> None:
        if self.editor is not None:
            text = self.editor.toPlainText()
            self.end_edit()
            self.edited.emit(text, ask)

    def _update(self, first: int) -> None:
        parts = self._message.parts
        if first < len(self._views) and self._views[first].kind != parts[first].kind:
            self._drop_from(first)
        self._drop_from(len(parts))
        self._stale = min(first, self._stale, len(self._views))
        self._draw_some()

    def _draw_some(self) -> None:
        """Draw some of what changed; the rest when the window has looked around."""
        parts = self._message.parts
        for part in parts[self._stale : self._stale + SLICE_PARTS]:
            if self._stale < len(self._views):
                self._views[self._stale].show_part(part)
            else:
                view = part_view(part)
                self._views.append(view)
                self._body.addWidget(view)
            self._stale += 1
        if self._stale < len(parts):
            QTimer.singleShot(0, self, self._draw_some)
        else:
            self._stale = max(0, len(parts) - 1)  # only the last one changes

    def _drop_from(self, first: int) -> None:
        while len(self._views) > first:
            view = self._views.pop()
            self._body.removeWidget(view)
            view.hide()
            view.deleteLater()

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.turn.content)

    def retranslate(self) -> None:
        self.who.set_full_text(tr("chat.you") if self.turn.role == "user" else self._name or tr("chat.model"))
        if self._measured is not None:
            tokens, rate = self._measured
            self.facts.setText(tr("chat.measured", tokens=fmt.whole(tokens), rate=f"{rate:.1f}"))
        for name, shown in self.buttons.items():
            shown.set_words(tr(f"chat.do_{name}"))

"""The steps of set-up as a list to choose from: icon, name, state in words, and what was found."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import ElidedLabel, IconLabel, label, restyle
from runner_gui.widgets.stepper import LOOKS
from wsl_bootstrap.status import Status


class _Row(QFrame):
    """One step.

    Signals:
        chosen(): it was clicked.
    """

    chosen = Signal()

    def __init__(self, status: Status) -> None:
        super().__init__()
        self.setObjectName("setup_row")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.icon = IconLabel("ring", "muted", 18)
        self.name, self.state = label("step_name"), label("caption")
        self.value = ElidedLabel()
        self.value.setObjectName("caption")
        words = QVBoxLayout()
        words.setSpacing(0)
        words.addWidget(self.name)
        under = QHBoxLayout()
        under.setSpacing(6)
        under.addWidget(self.state)
        under.addWidget(self.value, 1)
        words.addLayout(under)
        box = QHBoxLayout(self)
        box.setContentsMargins(10, 4, 10, 4)
        box.setSpacing(10)
        box.addWidget(self.icon)
        box.addLayout(words, 1)
        self.status = status
        self.show_status(status)

    def show_status(self, status: Status) -> None:
        self.status = status
        state = status.state.value
        icon, role, look = LOOKS[state]
        self.icon.set_icon(icon, role)
        self.name.setText(tr(f"step.{status.step_id}.name"))
        restyle(self.name, "state", look)
        self.state.setText(tr(f"setup.state.{state}"))
        value = status.probe.value if status.probe is not None and status.fulfilled else ""
        self.value.set_full_text(value)
        self.setAccessibleName(" · ".join(filter(None, (self.name.text(), self.state.text(), value))))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.chosen.emit()
        super().mousePressEvent(event)


class SetupList(QWidget):
    """One step is marked as the current one.

    Signals:
        chosen(): the person has chosen another.
    """

    chosen = Signal()

    def __init__(self, statuses: Iterable[Status], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        self.rows: dict[str, _Row] = {}
        for status in statuses:
            new = self.rows[status.step_id] = _Row(status)
            new.chosen.connect(lambda step_id=status.step_id: self.choose(step_id))
            column.addWidget(new)
        column.addStretch(1)
        self.current = next(iter(self.rows))
        self._mark()
        language_changed.connect(self.retranslate)

    def show_status(self, status: Status) -> None:
        self.rows[status.step_id].show_status(status)

    def choose(self, step_id: str) -> None:
        """The person chooses a step."""
        self.show_current(step_id)
        self.chosen.emit()

    def show_current(self, step_id: str) -> None:
        """Mark a step as the one that is shown beside."""
        self.current = step_id
        self._mark()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Up and down walk through the steps."""
        steps = list(self.rows)
        place = steps.index(self.current)
        if event.key() == Qt.Key.Key_Up and place > 0:
            self.choose(steps[place - 1])
        elif event.key() == Qt.Key.Key_Down and place < len(steps) - 1:
            self.choose(steps[place + 1])
        else:
            super().keyPressEvent(event)

    def retranslate(self) -> None:
        self.setAccessibleName(tr("environment.steps"))
        for shown in self.rows.values():
            shown.show_status(shown.status)

    def _mark(self) -> None:
        for step_id, shown in self.rows.items():
            restyle(shown, "chosen", "yes" if step_id == self.current else "no")

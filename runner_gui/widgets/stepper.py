"""The chain from data to a merged model, as a row of steps: icon, word and value of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import IconLabel, label, restyle

# state of a step -> (icon, role, look of its name). Never colour alone: each has its own shape.
LOOKS: dict[str, tuple[str, str, str]] = {
    "unknown": ("ring", "muted", "waiting"),
    "probing": ("more", "accent_text", "waiting"),
    "satisfied": ("check", "green", "done"),
    "not_needed": ("dash", "muted", "idle"),
    "missing": ("ring", "muted", "waiting"),
    "planned": ("ring", "accent_text", "waiting"),
    "applying": ("dot", "accent_text", "active"),
    "verifying": ("dot", "accent_text", "active"),
    "needs_reboot": ("warning", "amber", "active"),
    "blocked": ("warning", "amber", "active"),
    "unsupported": ("error", "red", "active"),
    "failed": ("error", "red", "active"),
}


@dataclass(frozen=True, slots=True)
class StepItem:
    """One step to show: `name_key` in the catalogue, `state` of the engine, `detail` as a ready text."""

    id: str
    name_key: str
    state: str
    detail: str = ""


class _Node(QWidget):
    """One step. Signals: activated(): a link was clicked, or Enter or the space bar pressed on it."""

    activated = Signal()

    def __init__(self, parent: QWidget | None = None, *, links: bool = False) -> None:
        super().__init__(parent)
        self._links = links
        if links:
            self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.icon = IconLabel("ring", "muted")
        self.name = label("step_name")
        self.detail = label("caption")
        box = QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(6)
        box.addWidget(self.icon)
        box.addWidget(self.name)
        box.addWidget(self.detail)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def show_step(self, item: StepItem) -> None:
        icon, role, look = LOOKS.get(item.state, LOOKS["unknown"])
        name, state = tr(item.name_key), tr(f"setup.state.{item.state}")
        self.icon.set_icon(icon, role)
        self.name.setText(name)
        restyle(self.name, "state", look)
        self.detail.setText(item.detail)
        self.detail.setVisible(bool(item.detail))
        words = " · ".join(part for part in (name, state, item.detail) if part)
        for widget in (self, self.icon, self.name):
            widget.setToolTip(words)
        self.setAccessibleName(words)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        super().mouseReleaseEvent(event)
        if self._links and self.rect().contains(event.position().toPoint()):
            self.activated.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._links and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Space):
            self.activated.emit()
        else:
            super().keyPressEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self._underline(True)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self._underline(False)

    def _underline(self, on: bool) -> None:
        font = self.name.font()
        font.setUnderline(on)
        self.name.setFont(font)


class Stepper(QFrame):
    """The row of steps. A run of steps that are not needed here is drawn as one.

    Args:
        links: ids of the steps that lead to where more is told of them.

    Signals:
        link_activated(str): the person wants to know more of this step.
    """

    link_activated = Signal(str)

    def __init__(self, parent: QWidget | None = None, *, links: Sequence[str] = ()) -> None:
        super().__init__(parent)
        self._links = frozenset(links)
        self.setObjectName("card")
        self.setFixedHeight(44)
        self._items: list[StepItem] = []
        self.nodes: dict[str, _Node] = {}
        self._skipped = label("caption")
        self._box = QHBoxLayout(self)
        self._box.setContentsMargins(16, 0, 16, 0)
        self._box.setSpacing(10)
        language_changed.connect(self.retranslate)

    def show_steps(self, items: Sequence[StepItem]) -> None:
        """Show these steps, in this order."""
        if [(i.id, i.state == "not_needed") for i in items] != [
            (i.id, i.state == "not_needed") for i in self._items
        ]:
            self._rebuild(items)
        self._items = list(items)
        self.retranslate()

    def retranslate(self) -> None:
        for item in self._items:
            if (node := self.nodes.get(item.id)) is not None:
                node.show_step(item)
        names = [tr(item.name_key) for item in self._items if item.state == "not_needed"]
        joined = tr("list.separator").join(names)
        self._skipped.setText(tr("stepper.not_needed", names=joined))
        self._skipped.setToolTip(tr("stepper.not_needed_help", names=joined))

    def _rebuild(self, items: Sequence[StepItem]) -> None:
        while (taken := self._box.takeAt(0)) is not None:
            if (widget := taken.widget()) is not None and widget is not self._skipped:
                widget.hide()  # it may be a while until it is deleted
                widget.deleteLater()
        self.nodes = {}
        self._skipped.setParent(None)
        skipping = False
        for item in items:
            if item.state == "not_needed" and skipping:
                continue
            if self._box.count():
                self._box.addWidget(self._line(), 1)
            skipping = item.state == "not_needed"
            if skipping:
                self._box.addWidget(self._skipped)
                self._skipped.show()
            else:
                node = self.nodes[item.id] = _Node(links=item.id in self._links)
                node.activated.connect(lambda step_id=item.id: self.link_activated.emit(step_id))
                self._box.addWidget(node)

    @staticmethod
    def _line() -> QFrame:
        line = QFrame()
        line.setObjectName("divider")
        line.setFixedHeight(1)
        line.setMinimumWidth(12)
        line.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        line.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        return line

"""Small controls that every page uses: fields that the wheel leaves alone, cards, labels, buttons."""

from __future__ import annotations

import math

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent, QValidator, QWheelEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from runner_gui import theme
from runner_gui.widgets.numbers_format import scientific

GRID = 4


class CalmSpinBox(QSpinBox):
    """An integer field; the wheel scrolls the page unless the field has the focus."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _calm(self)
        self.setKeyboardTracking(False)
        self.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.setGroupSeparatorShown(False)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel(self, event, super().wheelEvent)


class CalmDoubleSpinBox(QDoubleSpinBox):
    """A decimal field; the wheel scrolls the page unless the field has the focus."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        _calm(self)
        self.setKeyboardTracking(False)
        self.setAlignment(Qt.AlignmentFlag.AlignRight)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel(self, event, super().wheelEvent)

    def textFromValue(self, value: float) -> str:
        return f"{value:.{self.decimals()}f}".rstrip("0").rstrip(".") or "0"


class CalmComboBox(QComboBox):
    """A choice; the wheel scrolls the page unless the field has the focus."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)

    def wheelEvent(self, event: QWheelEvent) -> None:
        _wheel(self, event, super().wheelEvent)


class ScientificEdit(QLineEdit):
    """A field for rates, which spin boxes cannot show: takes 5e-5, 0.00005 or 1E-4.

    Signals:
        value_edited(float): another number was typed; NaN where the text is not a number.
    """

    value_edited = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.setValidator(_NumberValidator(self))
        self._value = math.nan
        self.editingFinished.connect(self._on_finished)
        self.textEdited.connect(lambda text: self._take(_parse(text)))

    def value(self) -> float:
        return self._value

    def set_value(self, value: float) -> None:
        self._value = value
        if _parse(self.text()) != value:
            self.setText(scientific(value) if math.isfinite(value) else "")

    def _take(self, value: float) -> None:
        if value != self._value:
            self._value = value
            self.value_edited.emit(value)

    def _on_finished(self) -> None:
        self._take(_parse(self.text()))
        if math.isfinite(self._value):
            self.setText(scientific(self._value))


class _NumberValidator(QValidator):
    """Lets through what can become a number, so that letters never get into the field."""

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        if any(c not in "0123456789.eE+-" for c in text):
            return QValidator.State.Invalid, text, position
        # Acceptable even while incomplete: the form says what is wrong with it, the field never traps.
        return QValidator.State.Acceptable, text, position


class ElidedLabel(QLabel):
    """A label that ends in … where its text does not fit; the whole text is its tool tip."""

    def __init__(
        self, parent: QWidget | None = None, mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight
    ) -> None:
        super().__init__(parent)
        self._full = ""
        self._mode = mode
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setTextFormat(Qt.TextFormat.PlainText)

    def set_full_text(self, text: str) -> None:
        self._full = text
        self.setToolTip(text)
        self.setAccessibleName(text)
        self._elide()

    def full_text(self) -> str:
        return self._full

    def sizeHint(self) -> QSize:
        return QSize(self.fontMetrics().horizontalAdvance(self._full) + 2, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(40, super().minimumSizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()

    def _elide(self) -> None:
        self.setText(self.fontMetrics().elidedText(self._full, self._mode, self.width()))


class Card(QFrame):
    """A surface with a border and room inside; `body` is its column."""

    def __init__(self, parent: QWidget | None = None, margin: int = 4 * GRID) -> None:
        super().__init__(parent)
        self.setObjectName("card")
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(margin, margin - GRID, margin, margin - GRID)
        self.body.setSpacing(2 * GRID)


def label(name: str = "", parent: QWidget | None = None, *, wrap: bool = False) -> QLabel:
    """A plain-text label with the look of a role of the style sheet."""
    out = QLabel(parent)
    out.setTextFormat(Qt.TextFormat.PlainText)
    out.setObjectName(name)
    out.setWordWrap(wrap)
    if wrap:
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        out.setSizePolicy(policy)
    return out


def button(name: str = "", parent: QWidget | None = None) -> QPushButton:
    out = QPushButton(parent)
    out.setObjectName(name)
    out.setAutoDefault(False)
    out.setCursor(Qt.CursorShape.PointingHandCursor)
    return out


class IconButton(QToolButton):
    """A square button with an icon in a role's colour; the icon follows the theme."""

    def __init__(
        self, icon: str, parent: QWidget | None = None, *, look: str = "", role: str = "muted", size: int = 18
    ) -> None:
        super().__init__(parent)
        self._icon, self._role = icon, role
        self.setObjectName(look)
        self.setIconSize(QSize(size, size))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        theme.theme.changed.connect(self.repaint_icon)
        self.repaint_icon()

    def set_icon(self, icon: str, role: str | None = None) -> None:
        self._icon, self._role = icon, role or self._role
        self.repaint_icon()

    def repaint_icon(self) -> None:
        self.setIcon(theme.icon(self._icon, self._role, self.iconSize().width()))

    def set_words(self, text: str) -> None:
        """What the button does, for the tool tip and for screen readers."""
        self.setToolTip(text)
        self.setAccessibleName(text)


class IconLabel(QLabel):
    """An icon in a role's colour; follows the theme."""

    def __init__(self, icon: str, role: str, size: int = 16, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._icon, self._role, self._size = icon, role, size
        self.setFixedSize(size, size)
        theme.theme.changed.connect(self.repaint_icon)
        self.repaint_icon()

    def set_icon(self, icon: str, role: str) -> None:
        if (icon, role) != (self._icon, self._role):
            self._icon, self._role = icon, role
            self.repaint_icon()

    def repaint_icon(self) -> None:
        self.setPixmap(theme.pixmap(self._icon, self._role, self._size, max(1.0, self.devicePixelRatioF())))


def row(*items: QWidget | int, spacing: int = 2 * GRID) -> QHBoxLayout:
    """A row of widgets; an integer is a stretch."""
    out = QHBoxLayout()
    out.setContentsMargins(0, 0, 0, 0)
    out.setSpacing(spacing)
    for item in items:
        if isinstance(item, int):
            out.addStretch(item)
        else:
            out.addWidget(item)
    return out


def scrolled(inside: QWidget) -> QScrollArea:
    """Put a widget where it scrolls up and down; it is as wide as there is room, so never sideways."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(inside)
    return area


def empty(layout: QLayout) -> None:
    """Take out all widgets; they are gone from sight at once, and deleted when nothing uses them any more."""
    while (item := layout.takeAt(0)) is not None:
        if (old := item.widget()) is not None:
            old.hide()
            old.deleteLater()


def restyle(widget: QWidget, name: str, value: str) -> None:
    """Set a property that the style sheet selects by, and apply it."""
    if widget.property(name) != value:
        widget.setProperty(name, value)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


def _calm(box: QSpinBox | QDoubleSpinBox) -> None:
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    # The style sheet gives the arrows no width; without arrows (NoButtons) it gives the text none.
    box.lineEdit().setTextMargins(8, 0, 8, 0)
    box.setMinimumWidth(72)


def _wheel(widget: QWidget, event: QWheelEvent, default: object) -> None:
    if widget.hasFocus():
        default(event)  # type: ignore[operator]
    else:
        event.ignore()


def _parse(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

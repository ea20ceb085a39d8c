"""The first minutes: four steps that point at what they speak of, and go away for good when told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QEvent, QObject, QPoint, QRect, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import Card, IconButton, button, label, row

STEPS = ("model", "data", "train", "use")
_WIDTH, _GAP = 320, 12


class Guide(Card):
    """A card beside the widget that a step is about, which gets a frame.

    Args:
        targets: finds the widget of each of `STEPS`, and brings it to sight.

    Signals:
        finished(): all was read, or it was dismissed.
    """

    finished = Signal()

    def __init__(self, window: QWidget, targets: Sequence[Callable[[], QWidget]]) -> None:
        super().__init__(window)
        self.setObjectName("guide")
        self.setFixedWidth(_WIDTH)
        self._window, self._targets = window, tuple(targets)
        self.step = 0
        self.frame = QFrame(window)
        self.frame.setObjectName("guide_frame")
        self.frame.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.title, self.text, self.count = label("title", wrap=True), label(wrap=True), label("caption")
        self.dismiss = IconButton("cross", look="small", size=14)
        self.back, self.next = button(), button("confirm")
        self.next.setDefault(True)
        head = row(self.title, self.dismiss)
        head.setStretch(0, 1)
        self.body.addLayout(head)
        self.body.addWidget(self.text)
        self.body.addLayout(row(self.count, 1, self.back, self.next))
        self.dismiss.clicked.connect(self.finish)
        self.back.clicked.connect(lambda: self.go(self.step - 1))
        self.next.clicked.connect(lambda: self.go(self.step + 1))
        language_changed.connect(self.retranslate)
        window.installEventFilter(self)
        self.hide()
        self.frame.hide()

    def go(self, step: int) -> None:
        """Show a step; behind the last one there is nothing more to say."""
        if not 0 <= step < len(STEPS):
            self.finish()
            return
        self.step = step
        self.retranslate()
        self.show()
        self.frame.show()
        self._place()
        self.next.setFocus()

    def finish(self) -> None:
        """Go away."""
        self.hide()
        self.frame.hide()
        self.finished.emit()

    def retranslate(self) -> None:
        name = STEPS[self.step]
        self.title.setText(tr(f"guide.{name}"))
        self.text.setText(tr(f"guide.{name}_text"))
        self.count.setText(f"{self.step + 1} / {len(STEPS)}")
        self.dismiss.set_words(tr("guide.dismiss"))
        self.back.setText(tr("guide.back"))
        self.back.setVisible(self.step > 0)
        self.next.setText(tr("guide.done" if self.step == len(STEPS) - 1 else "guide.next"))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.finish()
        else:
            super().keyPressEvent(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.Resize, QEvent.Type.LayoutRequest) and self.isVisible():
            self._place()
        return super().eventFilter(watched, event)

    def _place(self) -> None:
        target = self._targets[self.step]()
        around = QRect(target.mapTo(self._window, QPoint()), target.size()).adjusted(-4, -4, 4, 4)
        self.frame.setGeometry(around)
        self.adjustSize()
        self.resize(_WIDTH, max(self.heightForWidth(_WIDTH), self.sizeHint().height()))
        x = min(around.right() + _GAP, self._window.width() - _WIDTH - _GAP)
        y = min(max(around.top(), _GAP), self._window.height() - self.height() - _GAP)
        self.move(x, y)
        self.frame.raise_()
        self.raise_()

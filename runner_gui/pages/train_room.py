"""The right side of the Train page: the welcome, what the data is, or a run."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QScrollArea, QStackedWidget, QWidget

from runner_gui.pages.run_view import RunView
from runner_gui.widgets.data_panel import DataPanel
from runner_gui.widgets.welcome import Welcome


class TrainRoom(QStackedWidget):
    """Shows one of the three at a time."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.welcome, self.data_panel, self.run_view = Welcome(), DataPanel(), RunView()
        self.addWidget(self.welcome)
        self.addWidget(self.data_panel)
        # A banner on a small window leaves less room than the cards need: then they scroll.
        self._run_room = QScrollArea()
        self._run_room.setWidgetResizable(True)
        self._run_room.setFrameShape(QScrollArea.Shape.NoFrame)
        self._run_room.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.run_view.setObjectName("scroll_body")
        self._run_room.setWidget(self.run_view)
        self.addWidget(self._run_room)

    @property
    def shows_data(self) -> bool:
        return self.currentWidget() is self.data_panel

    def show_welcome(self) -> None:
        self.setCurrentWidget(self.welcome)

    def show_data(self) -> None:
        self.setCurrentWidget(self.data_panel)

    def show_run(self) -> None:
        self.setCurrentWidget(self._run_room)

    def show_log(self) -> None:
        """Bring the log to the front."""
        self.show_run()
        self.run_view.set_tab("log")
        self.run_view.log.text.setFocus()

"""What this program is, in which versions it runs, and under which licences."""

from __future__ import annotations

import platform
from importlib import metadata

from PySide6.QtCore import Qt, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.widgets.controls import Card, button, label, row

PACKAGES = ("rwkv-lora-runner", "PySide6-Essentials", "pyqtgraph", "numpy", "pydantic", "torch", "rwkv")


class AboutPage(QWidget):
    """Versions can be copied for a report."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.heading, self.sentence = label("heading"), label("muted", wrap=True)
        self.versions_title, self.licences_title = label("title"), label("title")
        self.licences = label(wrap=True)
        self.copy = button()
        self.versions = {name: version for name in PACKAGES if (version := _version(name)) is not None} | {
            "Python": platform.python_version(),
            "Qt": qVersion(),
            platform.system(): platform.release(),
        }
        self._lay_out()
        self.copy.clicked.connect(self._copy)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _lay_out(self) -> None:
        card = Card()
        card.setMaximumWidth(680)
        card.body.addLayout(row(self.versions_title, 1, self.copy))
        grid = QGridLayout()
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(4)
        for line, (name, version) in enumerate(self.versions.items()):
            left, right = label("muted"), label()
            left.setText(name)
            right.setText(version)
            right.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            grid.addWidget(left, line, 0)
            grid.addWidget(right, line, 1)
        grid.setColumnStretch(1, 1)
        card.body.addLayout(grid)
        card.body.addSpacing(8)
        card.body.addWidget(self.licences_title)
        card.body.addWidget(self.licences)
        column = QVBoxLayout(self)
        column.setContentsMargins(32, 24, 32, 24)
        column.setSpacing(12)
        column.addWidget(self.heading)
        column.addWidget(self.sentence)
        across = row(card, 1, spacing=0)
        across.setStretch(0, 100)
        column.addLayout(across)
        column.addStretch(1)

    def retranslate(self) -> None:
        self.heading.setText(tr("app.name"))
        self.sentence.setText(tr("about.sentence"))
        self.versions_title.setText(tr("about.versions"))
        self.licences_title.setText(tr("about.licences"))
        self.licences.setText(tr("about.licences_text"))
        self.copy.setText(tr("about.copy"))

    def _copy(self) -> None:
        lines = [f"{name} {version}" for name, version in self.versions.items()]
        QGuiApplication.clipboard().setText("\n".join(lines))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

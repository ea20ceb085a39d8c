"""What this program is, in which versions it runs, under which licences, and a report to send for help."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QGridLayout, QLabel, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.packages import Package, packages
from runner_gui.services.background import Background
from runner_gui.widgets.banner import Banner, Notice
from runner_gui.widgets.controls import Card, button, label, row, scrolled
from trainer.contract.files import disk_error

REPORT_NAME = "rwkv-lora-runner-report.zip"


class AboutPage(QWidget):
    """Versions can be copied for a question.

    Args:
        write_report: writes the report to a path; for a worker thread.
    """

    def __init__(self, write_report: Callable[[Path], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self._write_report = write_report
        self._background = Background(self)
        self.banner = Banner()
        self.heading, self.sentence = label("heading"), label("muted", wrap=True)
        self.versions_title, self.report_title = label("title"), label("title")
        self.report_help = label("help", wrap=True)
        self.copy, self.report = button(), button()
        self.versions = [
            *packages(),
            Package("Python", platform.python_version(), "PSF-2.0"),
            Package("Qt", qVersion(), "LGPL-3.0-only"),
            Package(platform.system(), platform.release(), ""),
        ]
        self._captions = {name: label("caption") for name in ("name", "version", "licence")}
        self._lay_out()
        self.copy.clicked.connect(self._copy)
        self.report.clicked.connect(self._ask_report)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _lay_out(self) -> None:
        table = Card()
        table.body.addLayout(row(self.versions_title, 1, self.copy))
        grid = QGridLayout()
        grid.setHorizontalSpacing(24)
        grid.setVerticalSpacing(4)
        for column, caption in enumerate(self._captions.values()):
            grid.addWidget(caption, 0, column)
        for line, package in enumerate(self.versions, start=1):
            for column, text in enumerate((package.name, package.version, package.licence)):
                cell: QLabel = label("muted" if column else "", wrap=column == 2)
                cell.setText(text)
                cell.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
                grid.addWidget(cell, line, column)
        grid.setColumnStretch(2, 1)
        table.body.addLayout(grid)
        help_card = Card()
        help_card.body.addLayout(row(self.report_title, 1, self.report))
        help_card.body.addWidget(self.report_help)
        inside = QWidget()
        inside.setObjectName("scroll_body")
        inside.setMaximumWidth(768)
        column = QVBoxLayout(inside)
        column.setContentsMargins(24, 16, 24, 16)
        column.setSpacing(12)
        for part in (self.heading, self.sentence, self.banner, help_card, table):
            column.addWidget(part)
        column.addStretch(1)
        scroll = scrolled(inside)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(scroll)

    def save_report(self, path: Path) -> None:
        """Write the report, in the background."""
        self.report.setEnabled(False)
        self._background.submit(lambda: self._write_report(path), lambda result: self._on_saved(path, result))

    def close_files(self) -> None:
        """End the thread."""
        self._background.close()

    def retranslate(self) -> None:
        self.heading.setText(tr("app.name"))
        self.sentence.setText(tr("about.sentence"))
        self.versions_title.setText(tr("about.versions"))
        for name, caption in self._captions.items():
            caption.setText(tr(f"about.{name}"))
        self.report_title.setText(tr("about.report"))
        self.report_help.setText(tr("about.report_help"))
        self.report.setText(tr("about.save_report"))
        self.copy.setText(tr("about.copy"))

    def _ask_report(self) -> None:
        start = str(Path.home() / REPORT_NAME)
        chosen, _ = QFileDialog.getSaveFileName(self.window(), tr("about.save_report"), start, "*.zip")
        if chosen:
            self.save_report(Path(chosen))

    def _on_saved(self, path: Path, result: object) -> None:
        self.report.setEnabled(True)
        if isinstance(result, OSError):
            self.banner.show_notice(Notice("error", problem=disk_error(result, path).problem))
        elif isinstance(result, Exception):
            raise result
        else:
            self.banner.show_notice(Notice("success", "exported", {"name": path.name}))

    def _copy(self) -> None:
        lines = [f"{package.name} {package.version}" for package in self.versions]
        QGuiApplication.clipboard().setText("\n".join(lines))

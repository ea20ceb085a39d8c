"""The manual in a window of its own, opened at the page that one is on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QImage, QKeySequence, QShortcut, QTextDocument
from PySide6.QtWidgets import QHBoxLayout, QListWidget, QTextBrowser, QVBoxLayout, QWidget

from runner_gui.i18n import language, language_changed, tr
from runner_gui.model.manual import EXTRA, chapter
from runner_gui.widgets.controls import IconButton, row

_SIZE, _LIST_WIDTH, _MARGIN = QSize(860, 640), 150, 32


class _Reader(QTextBrowser):
    """Shows Markdown; pictures are as wide as the window allows, and links to the web leave it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setOpenLinks(False)
        self.setFrameShape(QTextBrowser.Shape.NoFrame)
        self.anchorClicked.connect(self._on_link)

    def loadResource(self, kind: int, name: QUrl) -> Any:
        if kind == QTextDocument.ResourceType.ImageResource:
            url = self.source().resolved(name)
            image = QImage(url.toLocalFile())
            width = self.viewport().width() - _MARGIN
            if image.width() > width > 0:
                ratio = self.devicePixelRatioF()
                smooth = Qt.TransformationMode.SmoothTransformation
                image = image.scaledToWidth(round(width * ratio), smooth)
                image.setDevicePixelRatio(ratio)
            return image
        return super().loadResource(kind, name)

    def _on_link(self, url: QUrl) -> None:
        if url.scheme() in ("http", "https"):
            QDesktopServices.openUrl(url)
        elif url.fileName().endswith(".md"):
            self.setSource(self.source().resolved(url), QTextDocument.ResourceType.MarkdownResource)
        else:
            self.setSource(url)


class HelpWindow(QWidget):
    """A list of chapters and what the chosen one says.

    Args:
        pages: the window's pages, each of which has a chapter.
    """

    def __init__(self, pages: Sequence[str], parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.setObjectName("page")
        self.resize(_SIZE)
        self._names = (*pages, *EXTRA)
        self.chapters = QListWidget()
        self.chapters.setFixedWidth(_LIST_WIDTH)
        self.reader = _Reader()
        self.back = IconButton("back", look="flat")
        self.back.setEnabled(False)
        for _ in self._names:
            self.chapters.addItem("")
        left = QVBoxLayout()
        left.addLayout(row(self.back, 1))
        left.addWidget(self.chapters, 1)
        box = QHBoxLayout(self)
        box.setContentsMargins(8, 8, 8, 8)
        box.addLayout(left)
        box.addWidget(self.reader, 1)
        self.chapters.currentRowChanged.connect(self._show)
        self.reader.backwardAvailable.connect(self.back.setEnabled)
        self.back.clicked.connect(self.reader.backward)
        QShortcut(QKeySequence("Escape"), self).activated.connect(self.close)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def open_chapter(self, name: str) -> None:
        """Bring a chapter to the front."""
        self.show()
        self.raise_()
        self.activateWindow()
        self.chapters.setCurrentRow(self._names.index(name))
        self._show(self.chapters.currentRow())

    def retranslate(self) -> None:
        self.setWindowTitle(tr("help.title"))
        self.back.set_words(tr("help.back"))
        self.chapters.setAccessibleName(tr("help.chapters"))
        self.reader.setAccessibleName(tr("help.title"))
        for place, name in enumerate(self._names):
            self.chapters.item(place).setText(tr("help.keys" if name in EXTRA else f"page.{name}"))
        if self.isVisible():
            self._show(self.chapters.currentRow())

    def _show(self, place: int) -> None:
        path: Path = chapter(self._names[place], language())
        self.reader.setSource(QUrl.fromLocalFile(str(path)), QTextDocument.ResourceType.MarkdownResource)

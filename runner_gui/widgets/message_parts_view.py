"""The parts of a message on screen: prose drawn as Markdown, code, and a thought that is folded away."""

from __future__ import annotations

import math

from PySide6.QtCore import QSize, QSizeF, Qt, QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication, QTextCursor, QTextDocument, QWheelEvent
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QPushButton, QTextBrowser, QVBoxLayout, QWidget

from runner_gui import theme
from runner_gui.i18n import language_changed, tr
from runner_gui.model.message_parts import Part, PartKind
from runner_gui.widgets.controls import button, label, row

CODE_LINES = 30
# What is added to a plain text between two looks at the person.
SLICE_CHARS = 8192
_WEB = ("http", "https")


class ProseView(QTextBrowser):
    """Markdown as high as its text; raw HTML is shown and not obeyed, pictures are not fetched."""

    kind: PartKind = "prose"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("prose")
        self.setFrameShape(QFrame.Shape.NoFrame)
        for policy in (self.setVerticalScrollBarPolicy, self.setHorizontalScrollBarPolicy):
            policy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setOpenLinks(False)
        self.anchorClicked.connect(_open_link)
        self.document().setDocumentMargin(0)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        theme.theme.changed.connect(self._redraw)
        self._part = Part("prose")

    def show_part(self, part: Part) -> None:
        self._part = part
        self._redraw()

    def _redraw(self) -> None:
        features = QTextDocument.MarkdownFeature
        github = features.MarkdownDialectGitHub | features.MarkdownNoHTML
        self.document().setMarkdown(self._part.markdown(), github)

    def _fit(self, size: QSizeF) -> None:
        self.setFixedHeight(max(1, math.ceil(size.height())))

    def loadResource(self, kind: int, name: QUrl | str) -> None:
        """A model's text loads nothing from anywhere."""

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def sizeHint(self) -> QSize:
        return QSize(200, self.height())


def _open_link(url: QUrl) -> None:
    if url.scheme() in _WEB:
        QDesktopServices.openUrl(url)


class PlainView(QPlainTextEdit):
    """Text as it is, as high as its lines up to a limit; what is added costs only itself."""

    def __init__(self, name: str, *, wrap: bool, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setReadOnly(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        mode = QPlainTextEdit.LineWrapMode
        self.setLineWrapMode(mode.WidgetWidth if wrap else mode.NoWrap)
        self.document().setDocumentMargin(2)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        self._text, self._shown = "", 0

    def show_text(self, text: str) -> None:
        if not text.startswith(self._text[: self._shown]):
            self.clear()
            self._shown = 0
        self._text = text
        self._add_some()

    def _add_some(self) -> None:
        """Add some of what is not shown yet; the rest when the window has looked around."""
        piece = self._text[self._shown : self._shown + SLICE_CHARS]
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(piece)
        self._shown += len(piece)
        self._fit()
        if self._shown < len(self._text):
            QTimer.singleShot(0, self, self._add_some)

    def _fit(self) -> None:
        lines = min(CODE_LINES, max(1, math.ceil(self.document().size().height())))
        height = lines * self.fontMetrics().lineSpacing() + 12
        bar = self.horizontalScrollBar()
        if bar.maximum() > 0:
            height += bar.sizeHint().height()
        self.setFixedHeight(height)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.verticalScrollBar().maximum() > 0 and self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class CodeView(QFrame):
    """A block of code, and the button that copies it."""

    kind: PartKind = "code"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("code_block")
        self.language = label("caption")
        self.copy = button("link")
        self.text = PlainView("log", wrap=False)
        head = row(self.language, 1, self.copy)
        head.setContentsMargins(8, 2, 2, 0)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addLayout(head)
        column.addWidget(self.text)
        self.copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._code))
        self._code = ""
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_part(self, part: Part) -> None:
        self._code = part.text
        self.language.setText(part.language)
        self.text.show_text(part.text.rstrip("\n"))

    def retranslate(self) -> None:
        self.copy.setText(tr("chat.copy"))


class ThoughtView(QFrame):
    """What the model thought, folded away; unfolding it is one press."""

    kind: PartKind = "thought"

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.fold: QPushButton = button("link")
        self.fold.setCheckable(True)
        self.text = PlainView("thought", wrap=True)
        self.text.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row(self.fold, 1))
        column.addWidget(self.text)
        self._part = Part("thought")
        self.fold.toggled.connect(self._on_toggled)
        theme.theme.changed.connect(self.retranslate)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def show_part(self, part: Part) -> None:
        was_open, self._part = self._part.is_open, part
        if self.fold.isChecked():
            self.text.show_text(part.text)
        if was_open != part.is_open:
            self.retranslate()
        self.setVisible(part.is_open or bool(part.text))

    def _on_toggled(self, shown: bool) -> None:
        if shown:
            self.text.show_text(self._part.text)
        self.text.setVisible(shown)
        self.retranslate()

    def retranslate(self) -> None:
        icon = "chevron_down" if self.fold.isChecked() else "chevron_right"
        self.fold.setIcon(theme.icon(icon, "accent_text", 14))
        self.fold.setText(tr("chat.thinking" if self._part.is_open else "chat.thought"))


PartView = ProseView | CodeView | ThoughtView


def part_view(part: Part) -> PartView:
    """A view of the part's kind, showing it."""
    view: PartView = {"prose": ProseView, "code": CodeView, "thought": ThoughtView}[part.kind]()
    view.show_part(part)
    return view

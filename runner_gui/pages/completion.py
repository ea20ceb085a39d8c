"""One text that a model goes on with, in place; or several ways to go on, to judge a model by."""

from __future__ import annotations

from PySide6.QtCore import QTimer
from PySide6.QtGui import QShowEvent, QTextCursor
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model import stored
from runner_gui.model.chat_presets import Preset, PresetStore
from runner_gui.model.conversation import ChatSettings
from runner_gui.model.draft import Draft
from runner_gui.model.problems import AnyProblem
from runner_gui.model.workspace import Workspace
from runner_gui.pages.model_page import lay_out
from runner_gui.services.answer_stream import AnswerStream
from runner_gui.services.background import Background
from runner_gui.services.model_menu import ModelMenu
from runner_gui.services.model_servers import ModelServers
from runner_gui.widgets.banner import Banner, Notice
from runner_gui.widgets.chat_preset_bar import ChatPresetBar
from runner_gui.widgets.controls import CalmSpinBox, button, label, row
from runner_gui.widgets.model_picker import ModelPicker
from runner_gui.widgets.sampling_form import SamplingForm
from runner_gui.widgets.side_panel import SidePanel
from runner_gui.widgets.variants import Variants
from runner_gui.widgets.writing_field import WritingField
from trainer.contract.errors import AppError
from trainer.contract.files import write_json

DRAW_EVERY_MS = 60
KEEP_AFTER_MS = 1000
MAX_VARIANTS = 64
PANEL_WIDTH = 264


class CompletionPage(QWidget):
    """The page.

    Args:
        menu: what can be loaded.
        servers: what is loaded.
        presets: the person's own.
    """

    def __init__(
        self,
        workspace: Workspace,
        menu: ModelMenu,
        servers: ModelServers,
        presets: PresetStore,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._menu = menu
        self._file = workspace.draft_file
        self.draft = stored.load(self._file, Draft)
        self._background = Background(self)
        self._stream: AnswerStream | None = None
        self._pending: list[str] = []
        self._prompt: str | None = None  # what was gone on with last
        self.heading = label("heading")
        self.picker = ModelPicker(menu, servers)
        self.banner = Banner()
        self.text = WritingField()
        self.text.setPlainText(self.draft.text)
        self.variants = Variants()
        self.variants.hide()
        self.go, self.stop = button("confirm"), button()
        self.go.setDefault(True)
        self.again, self.back, self.many = button(), button(), button()
        self.count = CalmSpinBox()
        self.count.setRange(2, MAX_VARIANTS)
        self.count.setValue(8)
        self.presets = ChatPresetBar("text", presets)
        self.form = SamplingForm()
        self.form.show_sampling(self.draft.sampling)
        self._drawing = QTimer(self)
        self._drawing.setInterval(DRAW_EVERY_MS)
        self._drawing.timeout.connect(self._draw)
        self._keeping = QTimer(self)
        self._keeping.setSingleShot(True)
        self._keeping.setInterval(KEEP_AFTER_MS)
        self._keeping.timeout.connect(self._keep)
        self._lay_out()
        self._connect()
        self.retranslate()

    def _lay_out(self) -> None:
        head = row(self.heading, self.picker, spacing=16)
        head.setStretch(1, 1)
        self.panel = SidePanel()
        self.panel.setFixedWidth(PANEL_WIDTH)
        for widget in (self.presets, self.form):
            self.panel.column.addWidget(widget)
        self.panel.column.addStretch(1)
        middle = QVBoxLayout()
        middle.setSpacing(8)
        texts = QHBoxLayout()
        texts.setSpacing(12)
        texts.addWidget(self.text, 3)
        texts.addWidget(self.variants, 2)
        middle.addLayout(texts, 1)
        middle.addLayout(row(self.back, self.again, 1, self.count, self.many, self.stop, self.go))
        lay_out(self, head, self.banner, middle, self.panel)

    def _connect(self) -> None:
        self.go.clicked.connect(self.go_on)
        self.stop.clicked.connect(self._on_stop)
        self.again.clicked.connect(self.go_on_again)
        self.back.clicked.connect(self.take_back)
        self.many.clicked.connect(self.make_variants)
        self.variants.taken.connect(self._take_variant)
        self.variants.close_button.clicked.connect(self.variants.hide)
        self.text.textChanged.connect(self._on_edited)
        self.form.changed.connect(self._keeping.start)
        self.presets.chosen.connect(self._on_preset)
        self.presets.wanted.connect(self._on_wanted)
        self.presets.failed.connect(self._fail)
        self.picker.server_changed.connect(self._show_state)
        self.text.sent.connect(self.go_on)
        language_changed.connect(self.retranslate)

    @property
    def is_answering(self) -> bool:
        return self._stream is not None

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._menu.refresh()
        self.picker.follow_running()

    def press_primary(self) -> None:
        """What Ctrl+Enter does on this page."""
        self.go_on()

    def go_on(self) -> None:
        """Have the text gone on with."""
        if self._can_ask():
            self._prompt = self.text.toPlainText()
            stream = self._ask({"prompt": self._prompt})
            stream.text_received.connect(self._on_text)
            self.text.setReadOnly(True)
            self._drawing.start()

    def go_on_again(self) -> None:
        """Take what was added last away, and have the text gone on with anew."""
        if self._can_ask() and self._prompt is not None:
            self.take_back()
            self.go_on()

    def take_back(self) -> None:
        """Take what was added last away."""
        if self._prompt is not None and not self.is_answering:
            self._set_text(self._prompt)

    def make_variants(self) -> None:
        """Have several ways to go on, each with a seed of its own."""
        if self._can_ask():
            count = self.count.value()
            self.variants.show()
            self.variants.begin(count)
            stream = self._ask({"prompt": self.text.toPlainText(), "n": count})
            stream.text_received.connect(self.variants.add)
            stream.choice_ended.connect(self.variants.end)

    def close_files(self) -> None:
        """End what is under way, and have the text on disk."""
        if self._stream is not None:
            self._stream.cancel()
        self._draw()
        self._keeping.stop()
        self._keep()
        self._background.finish()

    def _ask(self, what: dict[str, object]) -> AnswerStream:
        server = self.picker.server
        assert server is not None
        stream = AnswerStream(server, "text", {**self.draft.sampling.body(), **what}, self)
        stream.finished.connect(self._end)
        stream.failed.connect(self._on_failed)
        self._stream = stream
        self.banner.dismiss()
        self._show_state()
        return stream

    def _can_ask(self) -> bool:
        server = self.picker.server
        return server is not None and server.is_ready and not self.is_answering

    def _on_stop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()

    def _on_text(self, _: int, piece: str) -> None:
        self._pending.append(piece)

    def _draw(self) -> None:
        if self._pending:
            text, self._pending = "".join(self._pending), []
            bar = self.text.verticalScrollBar()
            follow = bar.value() >= bar.maximum() - 2
            cursor = QTextCursor(self.text.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(text)
            if follow:
                bar.setValue(bar.maximum())

    def _on_failed(self, problem: AnyProblem, details: str) -> None:
        self._end()
        self._fail(problem, details)

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.deleteLater()
        self._drawing.stop()
        self._draw()
        if self.variants.isVisibleTo(self):
            self.variants.finish()
        self.text.setReadOnly(False)
        self._show_state()

    def _take_variant(self, text: str) -> None:
        if not self.is_answering:
            self._prompt = self.text.toPlainText()
            self._set_text(self._prompt + text)

    def _set_text(self, text: str) -> None:
        """Put a text in place; the field's own undo still knows the one before."""
        cursor = QTextCursor(self.text.document())
        cursor.select(QTextCursor.SelectionType.Document)
        cursor.insertText(text)
        self.text.moveCursor(QTextCursor.MoveOperation.End)

    def _on_preset(self, preset: Preset) -> None:
        self.draft.sampling = preset.settings.sampling.model_copy(deep=True)
        self.form.show_sampling(self.draft.sampling)
        self._prompt = None
        self._set_text(preset.text)

    def _on_wanted(self, name: str) -> None:
        settings = ChatSettings(sampling=self.draft.sampling.model_copy(deep=True))
        self.presets.keep(Preset(kind="text", name=name, settings=settings, text=self.text.toPlainText()))

    def _on_edited(self) -> None:
        self._keeping.start()

    def _keep(self) -> None:
        self.draft.text = self.text.toPlainText()
        value = self.draft.model_dump(mode="json")
        self._background.submit(lambda: write_json(self._file, value), self._on_kept)

    def _on_kept(self, outcome: object) -> None:
        if isinstance(outcome, AppError):
            self._fail(outcome.problem)

    def _fail(self, problem: AnyProblem, details: str = "") -> None:
        self.banner.show_notice(Notice("error", problem=problem, details=details))

    def _show_state(self) -> None:
        can_ask, answering = self._can_ask(), self.is_answering
        self.go.setVisible(not answering)
        self.stop.setVisible(answering)
        for widget in (self.go, self.many):
            widget.setEnabled(can_ask)
        self.again.setEnabled(can_ask and self._prompt is not None)
        self.back.setEnabled(self._prompt is not None and not answering)

    def retranslate(self) -> None:
        self.heading.setText(tr("page.completion"))
        self.text.setPlaceholderText(tr("completion.empty"))
        self.text.setAccessibleName(tr("completion.text"))
        self.panel.title.set_full_text(tr("completion.settings"))
        self.count.setAccessibleName(tr("completion.count"))
        for name in ("go", "stop", "again", "back", "many"):
            shown = getattr(self, name)
            shown.setText(tr(f"completion.{name}"))
            shown.setToolTip(tr(f"completion.{name}_help"))
        self._show_state()

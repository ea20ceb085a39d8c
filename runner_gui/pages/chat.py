"""Chats with a model: many of them, kept on disk."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QTimer, QUrl
from PySide6.QtGui import QDesktopServices, QShowEvent
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.chat_presets import Preset, PresetStore
from runner_gui.model.conversation import Conversation
from runner_gui.model.conversation_store import Shelfful, read_conversation
from runner_gui.model.problems import AnyProblem
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.pages.model_page import lay_out
from runner_gui.services.conversations import Conversations
from runner_gui.services.model_menu import ModelMenu
from runner_gui.services.model_servers import ModelServers
from runner_gui.services.talk import Talk
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.chat_entry import ChatEntry
from runner_gui.widgets.chat_settings_panel import ChatSettingsPanel
from runner_gui.widgets.controls import IconButton, label, row
from runner_gui.widgets.conversation_list import ConversationList
from runner_gui.widgets.dialogs import Question
from runner_gui.widgets.message_list import MessageList
from runner_gui.widgets.model_picker import ModelPicker
from trainer.contract.errors import AppError, Problem
from trainer.contract.files import atomic_write

LIST_WIDTH = 200


class ChatPage(QWidget):
    """A list of conversations, the one that is open, and what it is set to.

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
        self.conversations = Conversations(workspace.chats, self)
        self.talks: dict[str, Talk] = {}
        self.talk = self._talk_of(Conversation())
        self.question: Question | None = None
        self._loaded = False
        self.heading = label("heading")
        self.picker = ModelPicker(menu, servers)
        self.settings_button = IconButton("sliders", look="flat")
        self.settings_button.setCheckable(True)
        self.banner = Banner()
        self.list = ConversationList()
        self.list.setFixedWidth(LIST_WIDTH)
        self.messages = MessageList()
        self.entry = ChatEntry()
        self.panel = ChatSettingsPanel(presets)
        self.panel.hide()
        self._lay_out()
        self._connect()
        self._show_talk()
        self.retranslate()

    def _lay_out(self) -> None:
        head = row(self.heading, self.picker, self.settings_button, spacing=16)
        head.setStretch(1, 1)
        middle = QVBoxLayout()
        middle.setSpacing(8)
        middle.addWidget(self.messages, 1)
        middle.addWidget(self.entry)
        lay_out(self, head, self.banner, middle, self.panel, left=self.list)

    def _connect(self) -> None:
        self.conversations.loaded.connect(self._on_loaded)
        self.conversations.failed.connect(self._fail)
        self.list.new_requested.connect(self.begin)
        self.list.chosen.connect(self.open)
        self.list.searched.connect(lambda _: self._show_list())
        self.list.renamed.connect(self._rename)
        self.list.import_requested.connect(self._choose_import)
        self.list.action_requested.connect(self._act)
        self.entry.sent.connect(self._send)
        self.entry.stopped.connect(lambda: self.talk.stop())
        self.picker.server_changed.connect(self._on_server)
        self.settings_button.toggled.connect(self.panel.setVisible)
        self.panel.changed.connect(self._on_settings)
        self.panel.preset_chosen.connect(self._on_preset)
        self.panel.presets.failed.connect(self._fail)
        language_changed.connect(self.retranslate)

    # What is open

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._menu.refresh()
        self.picker.follow_running()
        if not self._loaded:
            self._loaded = True
            QTimer.singleShot(0, self, self.conversations.load)

    def open_model(self, options: ServeOptions) -> None:
        """Load a model and begin a conversation with it."""
        self._menu.refresh()
        self.picker.load(options)
        if self.talk.conversation.turns:
            self.begin()

    def begin(self) -> None:
        """Another conversation, set like the one before."""
        settings = self.talk.conversation.settings.model_copy(deep=True)
        self.talk = self._talk_of(Conversation(settings=settings))
        self._show_talk()
        self.entry.field.setFocus()

    def open(self, conversation_id: str) -> None:
        """Show a conversation; an answer that comes in another one goes on there."""
        found = next((one for one in self.conversations.items if one.id == conversation_id), None)
        if found is not None and found is not self.talk.conversation:
            self.talk = self._talk_of(found)
            self._show_talk()

    def import_file(self, path: Path) -> None:
        """Take a conversation in from a file, and show it."""
        try:
            conversation = read_conversation(path)
        except AppError as error:
            self._fail(error.problem)
            return
        self.conversations.add(conversation)
        self.conversations.save(conversation)
        self.open(conversation.id)

    def export(self, conversation: Conversation, path: Path) -> None:
        """Write a conversation to a file: Markdown to read, or JSON to take along."""
        if path.suffix == ".md":
            text = conversation.as_markdown(tr("chat.you"), conversation.model or tr("chat.model"))
        else:
            text = conversation.model_dump_json(indent=2)
        try:
            with atomic_write(path) as file:
                file.write(text.encode("utf-8", errors="replace"))
        except AppError as error:
            self._fail(error.problem)
            return
        self.banner.show_notice(Notice("success", "chat_exported", {"name": path.name}))

    def press_primary(self) -> None:
        """Send what is written."""
        self.entry.submit()

    def close_files(self) -> None:
        """End what is under way, and have everything on disk."""
        for talk in self.talks.values():
            if talk.is_answering:
                talk.close()
                self.conversations.save(talk.conversation)
        self.conversations.close()

    def _talk_of(self, conversation: Conversation) -> Talk:
        if (known := self.talks.get(conversation.id)) is not None:
            return known
        talk = Talk(conversation, self)
        talk.kept.connect(self._on_kept)
        talk.failed.connect(self._on_failed)
        talk.answering_changed.connect(lambda _: self._show_state())
        talk.turns_changed.connect(self._show_state)
        self.talks[conversation.id] = talk
        return talk

    def _show_talk(self) -> None:
        self.messages.show_talk(self.talk)
        self.panel.show_settings(self.talk.conversation.settings)
        self._show_list()
        self._show_state()

    def _show_list(self) -> None:
        found = self.conversations.found(self.list.search.text())
        self.list.show_conversations(found, self.talk.conversation.id)

    def _show_state(self) -> None:
        self.talk.server = self.picker.server
        self.entry.show_state(can_send=self.talk.can_ask, answering=self.talk.is_answering)
        has_model = self.picker.server is not None
        self.messages.empty.setText(tr("chat.empty" if has_model else "chat.empty_no_model"))

    # What happens

    def _send(self, text: str) -> None:
        self.talk.server = self.picker.server
        if self.talk.say(text):
            self.entry.clear()
            self.banner.dismiss()

    def _on_kept(self) -> None:
        if isinstance(talk := self.sender(), Talk):
            self._keep(talk)

    def _keep(self, talk: Talk) -> None:
        conversation = talk.conversation
        if conversation not in self.conversations.items:
            if not conversation.turns:
                return
            self.conversations.add(conversation)
        self.conversations.save(conversation)
        if not talk.is_answering or self.list.current_id() != conversation.id:
            self._show_list()

    def _on_settings(self) -> None:
        if self.talk.conversation.turns:
            self.conversations.save(self.talk.conversation)

    def _on_preset(self, preset: Preset) -> None:
        """A preset's own turns are what an empty chat begins with."""
        conversation = self.talk.conversation
        if preset.turns and not conversation.turns:
            conversation.turns += [turn.model_copy() for turn in preset.turns]
            self.talk.turns_changed.emit()
            self._keep(self.talk)

    def _on_server(self) -> None:
        self._show_state()
        server, options = self.picker.server, self.picker.options()
        if server is None or server.state != "failed" or options is None:
            return
        again = BannerAction("chat.load_again", lambda: self.picker.load(options))
        self.banner.show_notice(
            Notice("error", problem=server.problem, details=server.details, actions=(again,))
        )

    def _on_loaded(self, found: Shelfful) -> None:
        self._show_list()
        if found.broken:
            show = BannerAction("action.show", lambda: _reveal(self.conversations.folder))
            count = fmt.whole(len(found.broken))
            names = "\n".join(path.name for path in found.broken)
            self.banner.show_notice(
                Notice("warning", "chats_broken", {"count": count}, details=names, actions=(show,))
            )

    def _on_failed(self, problem: AnyProblem, details: str) -> None:
        self._fail(problem, details)
        self._on_server()  # where the server itself has failed, it is what to do something about

    def _fail(self, problem: AnyProblem | Problem, details: str = "") -> None:
        self.banner.show_notice(Notice("error", problem=problem, details=details))
        self._show_state()

    # What the list asks for

    def _found(self, conversation_id: str) -> Conversation | None:
        return next((one for one in self.conversations.items if one.id == conversation_id), None)

    def _rename(self, conversation_id: str, title: str) -> None:
        conversation = self._found(conversation_id)
        if conversation is not None:
            conversation.title = title
            self.conversations.save(conversation)
            QTimer.singleShot(0, self, self._show_list)  # not while the list closes its editor

    def _act(self, action: str, conversation_id: str) -> None:
        conversation = self._found(conversation_id)
        if conversation is None:
            return
        if action == "delete":
            self.ask_delete(conversation)
            return
        suffix = ".md" if action == "export_markdown" else ".json"
        start = "".join(c if c.isalnum() or c in " -_." else "-" for c in conversation.name() or "chat")
        name, _ = QFileDialog.getSaveFileName(
            self.window(), tr(f"chat.list_{action}"), f"{start}{suffix}", f"*{suffix}"
        )
        if name:
            self.export(conversation, Path(name).with_suffix(suffix))

    def ask_delete(self, conversation: Conversation) -> Question:
        """Ask whether to delete a conversation."""
        name = conversation.name() or tr("chat.untitled")
        self.question = question = Question("delete_chat", ("delete", "keep"), self.window(), name=name)
        question.answered.connect(lambda answer: self._delete(conversation) if answer == "delete" else None)
        question.finished.connect(question.deleteLater)
        question.open()
        return question

    def _delete(self, conversation: Conversation) -> None:
        talk = self.talks.pop(conversation.id, None)
        if talk is not None:
            talk.close()
        self.conversations.delete(conversation)
        if talk is self.talk:
            self.begin()
        else:
            self._show_list()
        if talk is not None:
            talk.deleteLater()

    def _choose_import(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self.window(), tr("chat.list_import"), "", "*.json")
        if name:
            self.import_file(Path(name))

    def retranslate(self) -> None:
        self.heading.setText(tr("page.chat"))
        self.settings_button.set_words(tr("chat.settings"))
        self._show_state()


def _reveal(folder: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

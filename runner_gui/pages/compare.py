"""Two models beside each other: one prompt, the same seed, two answers."""

from __future__ import annotations

import secrets

from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.chat_presets import PresetStore
from runner_gui.model.conversation import ChatSettings, Conversation
from runner_gui.model.problems import AnyProblem
from runner_gui.model.serving import ServeOptions
from runner_gui.pages.model_page import lay_out
from runner_gui.services.model_menu import ModelMenu
from runner_gui.services.model_servers import ModelServers
from runner_gui.services.talk import Talk
from runner_gui.widgets.banner import Banner, Notice
from runner_gui.widgets.chat_entry import ChatEntry
from runner_gui.widgets.chat_settings_panel import ChatSettingsPanel
from runner_gui.widgets.controls import Card, IconButton, button, label, row
from runner_gui.widgets.message_list import MessageList
from runner_gui.widgets.model_picker import ModelPicker
from runner_gui.widgets.sampling_form import MAX_SEED


class _Side(Card):
    """One model and what it says."""

    def __init__(self, menu: ModelMenu, servers: ModelServers) -> None:
        super().__init__(margin=12)
        self.picker = ModelPicker(menu, servers)
        self.messages = MessageList()
        self.talk = Talk(Conversation(), self)
        self.messages.show_talk(self.talk)
        self.body.addWidget(self.picker)
        self.body.addWidget(self.messages, 1)

    def renew(self) -> None:
        """Begin anew."""
        self.talk.close()
        old, self.talk = self.talk, Talk(Conversation(), self)
        self.messages.show_talk(self.talk)
        old.deleteLater()


class ComparePage(QWidget):
    """The page. Both sides have the same settings, and draw with the same seed.

    Args:
        menu: what can be loaded.
        servers: what is loaded; here two models at once.
        presets: the person's own.
    """

    def __init__(
        self, menu: ModelMenu, servers: ModelServers, presets: PresetStore, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._menu = menu
        self.settings = ChatSettings()
        self.heading, self.seed = label("heading"), label("caption")
        self.again, self.clear = button(), button()
        self.settings_button = IconButton("sliders", look="flat")
        self.settings_button.setCheckable(True)
        self.banner = Banner()
        self.sides = (_Side(menu, servers), _Side(menu, servers))
        left, right = (side.picker for side in self.sides)
        left.beside, right.beside = right, left
        self.entry = ChatEntry()
        self.panel = ChatSettingsPanel(presets)
        self.panel.show_settings(self.settings)
        self.panel.hide()
        self._lay_out()
        self.again.clicked.connect(self.ask_again)
        self.clear.clicked.connect(self.begin)
        self.entry.sent.connect(self.ask)
        self.entry.stopped.connect(self.stop)
        self.settings_button.toggled.connect(self.panel.setVisible)
        self.panel.presets.failed.connect(self._fail)
        for side in self.sides:
            side.picker.server_changed.connect(self._show_state)
            self._listen(side.talk)
        language_changed.connect(self.retranslate)
        self.retranslate()

    def _lay_out(self) -> None:
        head = row(self.heading, self.seed, 1, self.again, self.clear, self.settings_button)
        models = QHBoxLayout()
        models.setSpacing(12)
        for side in self.sides:
            models.addWidget(side, 1)
        middle = QVBoxLayout()
        middle.setSpacing(8)
        middle.addLayout(models, 1)
        middle.addWidget(self.entry)
        lay_out(self, head, self.banner, middle, self.panel)

    @property
    def talks(self) -> list[Talk]:
        return [side.talk for side in self.sides]

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._menu.refresh()
        for side in self.sides:
            side.picker.follow_running()

    def load(self, left: ServeOptions, right: ServeOptions) -> None:
        """Load two models, for example a base and what was tuned from it."""
        self.sides[0].picker.load(left)
        self.sides[1].picker.load(right)
        self.begin()

    def ask(self, prompt: str) -> None:
        """Ask both."""
        if self._can_ask():
            self._draw_seed()
            for talk in self.talks:
                talk.say(prompt)
            self.entry.clear()
            self.banner.dismiss()

    def ask_again(self) -> None:
        """Have the last prompt answered again by both, with another seed unless one is set."""
        if self._can_ask() and all(talk.conversation.turns for talk in self.talks):
            self._draw_seed()
            for talk in self.talks:
                turns = talk.conversation.turns
                talk.answer_again(max(i for i, turn in enumerate(turns) if turn.role == "user"))

    def begin(self) -> None:
        """Forget what was said."""
        for side in self.sides:
            side.renew()
            self._listen(side.talk)
        self._show_state()

    def stop(self) -> None:
        for talk in self.talks:
            talk.stop()

    def press_primary(self) -> None:
        """Send what is written."""
        self.entry.submit()

    def close_files(self) -> None:
        """End what is under way."""
        for talk in self.talks:
            talk.close()

    def _listen(self, talk: Talk) -> None:
        talk.failed.connect(self._fail)
        talk.answering_changed.connect(lambda _: self._show_state())
        talk.turns_changed.connect(self._show_state)

    def _can_ask(self) -> bool:
        for side in self.sides:
            side.talk.server = side.picker.server
        return all(talk.can_ask for talk in self.talks)

    def _draw_seed(self) -> None:
        chosen = self.settings.sampling.seed
        seed = secrets.randbelow(MAX_SEED) if chosen is None else chosen
        for talk in self.talks:
            talk.conversation.settings = self.settings.model_copy(deep=True)
            talk.conversation.settings.sampling.seed = seed

    def _show_state(self) -> None:
        can_ask = self._can_ask()
        answering = any(talk.is_answering for talk in self.talks)
        said = any(talk.conversation.turns for talk in self.talks)
        self.entry.show_state(can_send=can_ask, answering=answering)
        self.again.setEnabled(can_ask and said)
        self.clear.setEnabled(said and not answering)
        seed = self.talks[0].conversation.settings.sampling.seed
        self.seed.setText(tr("compare.seed", seed=seed) if said else "")
        for side, key in zip(self.sides, ("compare.empty_left", "compare.empty_right"), strict=True):
            side.messages.empty.setText(tr(key))

    def _fail(self, problem: AnyProblem, details: str = "") -> None:
        self.banner.show_notice(Notice("error", problem=problem, details=details))
        self._show_state()

    def retranslate(self) -> None:
        self.heading.setText(tr("page.compare"))
        self.again.setText(tr("compare.again"))
        self.clear.setText(tr("compare.clear"))
        self.settings_button.set_words(tr("chat.settings"))
        self._show_state()

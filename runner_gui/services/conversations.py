"""The conversations on disk, read and written beside the window."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from runner_gui.model.conversation import Conversation
from runner_gui.model.conversation_store import ConversationStore, Shelfful
from runner_gui.services.background import Background
from trainer.contract.errors import AppError, Problem


class Conversations(QObject):
    """Every conversation there is, the latest first; an empty one has no file.

    Signals:
        loaded(object): the `Shelfful` that the folder holds.
        failed(object): a Problem; something could not be written.
    """

    loaded = Signal(object)
    failed = Signal(object)

    def __init__(self, folder: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store = ConversationStore(folder)
        self._background = Background(self)
        self.items: list[Conversation] = []

    @property
    def folder(self) -> Path:
        return self._store.folder

    def load(self) -> None:
        """Read the folder; what is here already, and not there, stays."""
        self._background.submit(self._store.load, self._on_loaded)

    def add(self, conversation: Conversation) -> None:
        self.items.insert(0, conversation)

    def save(self, conversation: Conversation) -> None:
        """Write it; of one that is empty there is nothing to write."""
        if conversation.turns or conversation.title:
            # The one that is written must not change meanwhile.
            copy = conversation.model_copy(deep=True)
            self._background.submit(lambda: self._store.save(copy), self._on_done)

    def delete(self, conversation: Conversation) -> None:
        self.items = [one for one in self.items if one.id != conversation.id]
        self._background.submit(lambda: self._store.delete(conversation.id), self._on_done)

    def found(self, words: str) -> list[Conversation]:
        """Those that hold every word, the latest first."""
        latest = sorted(self.items, key=lambda one: one.changed_ts, reverse=True)
        return [one for one in latest if one.holds(words)] if words.strip() else latest

    def close(self) -> None:
        """Wait until everything is written."""
        self._background.finish()

    def _on_loaded(self, outcome: Shelfful | Exception) -> None:
        if isinstance(outcome, Exception):
            self._on_done(outcome)
            return
        known = {one.id for one in self.items}
        self.items += [one for one in outcome.conversations if one.id not in known]
        self.loaded.emit(outcome)

    def _on_done(self, outcome: object) -> None:
        if isinstance(outcome, AppError):
            self.failed.emit(outcome.problem)
        elif isinstance(outcome, Exception):
            self.failed.emit(Problem("internal", {"detail": str(outcome)}))

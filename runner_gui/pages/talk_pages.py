"""The pages that talk to models, and what they share: loaded models, the menu of models, presets."""

from __future__ import annotations

from PySide6.QtCore import QObject

from runner_gui.model.chat_presets import PresetStore
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.pages.chat import ChatPage
from runner_gui.pages.compare import ComparePage
from runner_gui.pages.completion import CompletionPage
from runner_gui.services.model_menu import ModelMenu
from runner_gui.services.model_servers import ModelServers
from runner_gui.services.place import Place


class TalkPages(QObject):
    """Makes the pages, and closes them.

    Args:
        place: where models run.
    """

    def __init__(self, workspace: Workspace, place: Place, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.servers = ModelServers(place, self)
        self._menu = ModelMenu(workspace, place.original, self)
        presets = PresetStore(workspace.presets_file)
        self.chat = ChatPage(workspace, self._menu, self.servers, presets)
        self.compare = ComparePage(self._menu, self.servers, presets)
        self.completion = CompletionPage(workspace, self._menu, self.servers, presets)

    def open_model(self, options: ServeOptions) -> None:
        """Load a model, and have a chat with it ready."""
        self.chat.open_model(options)

    def close(self) -> None:
        """End what is under way, have everything on disk, and give the models up."""
        for page in (self.chat, self.compare, self.completion):
            page.close_files()
        self._menu.close()
        self.servers.close_all()

"""Conversations on disk: a folder with one JSON file each."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from runner_gui.model.conversation import Conversation
from trainer.contract.errors import AppError
from trainer.contract.files import disk_error, write_json

LOG = logging.getLogger(__name__)
# Nobody talks that much; a file of this size is something else.
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Shelfful:
    """What a folder holds: conversations, the latest first, and files that are none."""

    conversations: list[Conversation]
    broken: list[Path]


class ConversationStore:
    """Reads, writes and removes conversations; a file that cannot be understood is left alone.

    Args:
        folder: need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Shelfful:
        """Everything there is."""
        found, broken = [], []
        for path in sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ():
            if path.name.startswith("."):
                continue  # being written
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise ValueError("too large")
                conversation = Conversation.model_validate_json(path.read_bytes())
            except (OSError, ValueError, ValidationError) as error:
                LOG.warning("conversation %s cannot be read: %s", path, error)
                broken.append(path)
                continue
            conversation.id = path.stem  # a copied file is a conversation of its own
            found.append(conversation)
        found.sort(key=lambda one: one.changed_ts, reverse=True)
        return Shelfful(found, broken)

    def path(self, conversation_id: str) -> Path:
        return self.folder / f"{conversation_id}.json"

    def save(self, conversation: Conversation) -> None:
        """Write it, whole or not at all.

        Raises:
            AppError: `disk_full` or `not_writable`.
        """
        write_json(self.path(conversation.id), conversation.model_dump(mode="json"))

    def delete(self, conversation_id: str) -> None:
        """Remove it.

        Raises:
            AppError: `not_writable`.
        """
        path = self.path(conversation_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error


def read_conversation(path: Path) -> Conversation:
    """A conversation from a file of the person's choice; it gets an id of its own.

    Raises:
        AppError: `chat_file_unreadable`.
    """
    try:
        found = Conversation.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AppError("chat_file_unreadable", path=str(path)) from error
    return Conversation(**found.model_dump(exclude={"id"}))

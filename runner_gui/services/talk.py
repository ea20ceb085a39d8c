"""One conversation, and the model that answers in it."""

from __future__ import annotations

import time

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.model.conversation import Conversation, Turn
from runner_gui.model.problems import AnyProblem
from runner_gui.services.answer_stream import AnswerStream
from runner_gui.services.model_server import ModelServer

# What has come of an answer is worth a file this often.
KEEP_EVERY_MS = 3000


class Talk(QObject):
    """Asks, and puts what comes into the conversation.

    Args:
        conversation: is changed in place.

    Attributes:
        server: answers; None until one was chosen.

    Signals:
        turns_changed: turns were added, taken away or changed.
        text_received(str): more of the last turn.
        answering_changed(bool): an answer begins, or is over.
        kept: the conversation is worth writing to disk now.
        measured(int, float): tokens of an answer that is over, and tokens a second.
        failed(object, str): a Problem and its details.
    """

    turns_changed = Signal()
    text_received = Signal(str)
    answering_changed = Signal(bool)
    kept = Signal()
    measured = Signal(int, float)
    failed = Signal(object, str)

    def __init__(self, conversation: Conversation, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.conversation = conversation
        self.server: ModelServer | None = None
        self._stream: AnswerStream | None = None
        self._pieces: list[str] = []
        self._first_at: float | None = None
        self._keeping = QTimer(self)
        self._keeping.setInterval(KEEP_EVERY_MS)
        self._keeping.timeout.connect(self._keep)

    @property
    def is_answering(self) -> bool:
        return self._stream is not None

    @property
    def can_ask(self) -> bool:
        return self.server is not None and self.server.is_ready and not self.is_answering

    def answer_so_far(self) -> str:
        """What has come of the answer that is coming."""
        return "".join(self._pieces)

    def say(self, text: str) -> bool:
        """Say something and have it answered; false where nobody can answer now."""
        if not self.can_ask or not text.strip():
            return False
        self.conversation.turns.append(Turn(role="user", content=text.strip()))
        self._ask()
        return True

    def answer_again(self, index: int) -> bool:
        """Have a turn of the model made anew, or one of the person answered anew; what follows is lost."""
        if not self.can_ask or not 0 <= index < len(self.conversation.turns):
            return False
        keep = index + (self.conversation.turns[index].role == "user")
        del self.conversation.turns[keep:]
        self._ask()
        return True

    def edit(self, index: int, text: str, *, ask: bool = False) -> None:
        """Put other words in place of a turn's, and have them answered where that is asked for."""
        if not self.is_answering and text.strip():
            self.conversation.turns[index].content = text.strip()
            if not (ask and self.answer_again(index)):
                self._changed()

    def remove(self, index: int) -> None:
        """Take one turn away."""
        if not self.is_answering:
            del self.conversation.turns[index]
            self._changed()

    def stop(self) -> None:
        """End the answer that is coming; what has come stays."""
        if self._stream is not None:
            self._stream.cancel()

    def close(self) -> None:
        """Listen to nothing any more."""
        stream, self._stream = self._stream, None
        self._keeping.stop()
        if stream is not None:
            self._gather()
            stream.disconnect(self)
            stream.cancel()
            stream.deleteLater()

    def _ask(self) -> None:
        assert self.server is not None
        conversation = self.conversation
        body = conversation.body()
        # An empty thought only keeps the model from thinking; it is nothing to read.
        begun = conversation.begun() if conversation.settings.thinking == "on" else ""
        conversation.turns.append(Turn(role="assistant", content=begun))
        conversation.model = self.server.name
        self._pieces = [begun]
        self._first_at = None
        stream = AnswerStream(self.server, "chat", body, self)
        stream.text_received.connect(self._on_text)
        stream.finished.connect(self._on_finished)
        stream.failed.connect(self._on_failed)
        self._stream = stream
        self._keeping.start()
        self._changed()
        self.answering_changed.emit(True)

    def _on_text(self, _: int, piece: str) -> None:
        if self._first_at is None:
            self._first_at = time.monotonic()
        self._pieces.append(piece)
        self.text_received.emit(piece)

    def _on_finished(self, _: str) -> None:
        stream, first_at = self._stream, self._first_at
        self._end()
        tokens = int(((stream.usage if stream else None) or {}).get("completion_tokens") or 0)
        if tokens > 1 and first_at is not None:
            self.measured.emit(tokens, (tokens - 1) / max(time.monotonic() - first_at, 1e-3))

    def _on_failed(self, problem: AnyProblem, details: str) -> None:
        self._end()
        self.failed.emit(problem, details)

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.deleteLater()
        self._keeping.stop()
        self._gather()
        turns = self.conversation.turns
        if turns and not turns[-1].content.strip():
            turns.pop()  # nothing came
        self._changed()
        self.answering_changed.emit(False)

    def _gather(self) -> None:
        self.conversation.turns[-1].content = "".join(self._pieces)

    def _keep(self) -> None:
        self._gather()
        self.conversation.changed_ts = time.time()
        self.kept.emit()

    def _changed(self) -> None:
        self.conversation.changed_ts = time.time()
        self.turns_changed.emit()
        self.kept.emit()

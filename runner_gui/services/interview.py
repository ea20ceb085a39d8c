"""A few questions to one model, one after the other, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.services.chat import ChatService
from runner_gui.services.place import Place

# Close to the likeliest words, and seeded: what is compared must not hang on luck. Without the small penalty
# a small model loops; with that of a usual chat it evades common words for ones that it has never seen.
SAMPLING = {
    "temperature": 0.3, "top_p": 0.5, "top_k": 4, "frequency_penalty": 0.2, "seed": 1, "max_tokens": 96,
}  # fmt: skip


class Interview(QObject):
    """Loads a model, asks, and gives the model up again. Used once.

    Args:
        prompts: what to ask, by a key of the caller's.

    Signals:
        asked, answered: the key, and the whole answer. finished: after the last one.
        failed: a Problem and its details.
    """

    asked = Signal(str)
    answered = Signal(str, str)
    finished = Signal()
    failed = Signal(object, str)

    def __init__(
        self,
        model: Path,
        prompts: Mapping[str, str],
        parent: QObject | None = None,
        *,
        place: Place | None = None,
    ) -> None:
        super().__init__(parent)
        self._model = model
        self._prompts = dict(prompts)
        self._left = list(prompts)
        self._answer = ""
        self._chat = ChatService(place, self)
        self._chat.ready.connect(self._ask)
        self._chat.token_received.connect(self._on_token)
        self._chat.answer_finished.connect(self._on_finished)
        self._chat.failed.connect(self.failed)

    def begin(self) -> None:
        self._chat.start(self._model)

    def close(self) -> None:
        self._chat.close()

    def _ask(self) -> None:
        if not self._left:
            self._chat.close()
            self.finished.emit()
            return
        self._answer = ""
        self.asked.emit(self._left[0])
        self._chat.ask([{"role": "user", "content": self._prompts[self._left[0]]}], SAMPLING)

    def _on_token(self, piece: str) -> None:
        self._answer += piece

    def _on_finished(self, _: str) -> None:
        self.answered.emit(self._left.pop(0), self._answer)
        # Out of the reply's own signal, before the next one begins.
        QTimer.singleShot(0, self, self._ask)

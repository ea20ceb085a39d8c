"""A few questions to one model, one after the other, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.model.problems import AnyProblem
from runner_gui.model.serving import ServeOptions
from runner_gui.services.answer_stream import AnswerStream
from runner_gui.services.model_server import ModelServer
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
        self._server = ModelServer(place, self)
        self._server.state_changed.connect(self._on_state)
        self._server.failed.connect(self.failed)
        self._stream: AnswerStream | None = None

    def begin(self) -> None:
        self._server.start(ServeOptions(self._model))

    def close(self) -> None:
        self._server.close()

    def _on_state(self) -> None:
        if self._server.is_ready:
            self._ask()

    def _ask(self) -> None:
        if not self._left:
            self.close()
            self.finished.emit()
            return
        self._answer = ""
        self.asked.emit(self._left[0])
        messages = [{"role": "user", "content": self._prompts[self._left[0]]}]
        stream = AnswerStream(self._server, "chat", {**SAMPLING, "messages": messages}, self)
        stream.text_received.connect(self._on_text)
        stream.finished.connect(self._on_finished)
        stream.failed.connect(self._on_failed)
        self._stream = stream

    def _on_text(self, _: int, piece: str) -> None:
        self._answer += piece

    def _on_failed(self, problem: AnyProblem, details: str) -> None:
        if self._server.is_running:  # else the server has told it
            self.failed.emit(problem, details)

    def _on_finished(self) -> None:
        self.answered.emit(self._left.pop(0), self._answer)
        # Out of the reply's own signal, before the next one begins.
        QTimer.singleShot(0, self, self._ask)

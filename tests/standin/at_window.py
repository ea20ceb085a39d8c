"""Somebody at the window: opens it as the program does, clicks with a mouse, says what is seen.

    at_window.py SCENE [what runner_gui takes]

Each line of its output is a JSON object. A scene is a function that yields what it waits for; while it waits,
the event loop of the window runs. It ends with 0 when the scene has come to its end, with 1 when the window
did not do what a person may expect of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QDialog, QPlainTextEdit, QWidget

from runner_gui import app
from runner_gui.widgets.consent_dialog import ConsentDialog
from runner_gui.widgets.dialogs import Question
from trainer.contract.events import Event
from wsl_bootstrap.transitions import State

POLL_MS = 50
LIMIT_S = 900.0  # for the longest wait, an installation
PICTURES = "RUNNER_PICTURES"  # a folder: each press leaves a picture of what was pressed

Scene = Iterator[Callable[[], object]]


class Person:
    """Eyes and a hand for one window."""

    def __init__(self, window: app.MainWindow, scene: str) -> None:
        self.window, self.train = window, window.train_page
        self.failures: list[str] = []
        self.expects_failure = False
        window.pipeline.failed.connect(lambda problem, _: self.failures.append(str(problem)))
        self.steps = 0  # heard of since this window was opened
        window.pipeline.event_received.connect(self._on_event)
        self._scene: Scene = getattr(self, scene)()
        self._awaited: Callable[[], object] = lambda: True
        self._since = time.monotonic()
        self._timer = QTimer(window, interval=POLL_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()
        self._pictures = 0

    def _on_event(self, event: Event) -> None:
        self.steps += event.t == "step"

    def _look(self) -> None:
        try:
            assert self.expects_failure or not self.failures, self.failures
            if not self._awaited():
                if time.monotonic() - self._since > LIMIT_S:
                    raise TimeoutError("waited in vain")
                return
            self._awaited = next(self._scene)
            self._since = time.monotonic()
        except StopIteration:
            self._timer.stop()
            self.window.close()
        except BaseException:  # noqa: BLE001 - the edge of the program: said, and ended
            self.tell("trouble", what=traceback.format_exc(), banner=self.banner)
            self.picture("trouble")
            sys.stdout.flush()
            os._exit(1)

    # Eyes

    def tell(self, event: str, **facts: Any) -> None:
        sys.stdout.write(json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    @property
    def banner(self) -> str:
        """The key of the sentence in the banner, or its problem's code."""
        notice = self.train.banner.notice
        return "" if notice is None else notice.key or str(getattr(notice.problem, "code", notice.problem))

    @property
    def drawn(self) -> int:
        """How many points of the loss are in the plot, on the screen."""
        plot: Any = self.train.run_view.chart._plot
        curve = None if plot is None or not plot.isVisible() else plot._curve
        return 0 if curve is None else len(curve.main)

    def sees_steps(self, wanted: int = 3) -> Scene:
        """Wait until the trainer has told of more steps, and the curve on the screen has more points."""
        heard, drawn = self.steps, self.drawn
        yield lambda: self.steps >= heard + wanted and self.drawn > drawn
        assert self.window.pipeline.is_training

    def question(self, kind: type[QWidget] = Question) -> Any:
        """The dialog that is open, or None."""
        shown = [one for one in QApplication.topLevelWidgets() if isinstance(one, kind) and one.isVisible()]
        return shown[-1] if shown else None

    def banner_button(self, key: str) -> QAbstractButton | None:
        banner = self.train.banner
        found = (one for one in banner.buttons if one.property("key") == key and one.isVisible())
        return next(found, None)

    def picture(self, name: str) -> None:
        if folder := os.environ.get(PICTURES):
            self._pictures += 1
            shown = self.question(QDialog) or self.window
            shown.grab().save(str(Path(folder, f"{os.getpid()}-{self._pictures:02}-{name}.png")))

    # Hand

    def press(self, button: QAbstractButton | None) -> None:
        """Click a button that can be seen and is not grey."""
        assert button is not None
        assert button.isVisible(), button.text()
        assert button.isEnabled(), button.text()
        self.tell("press", button=button.text())
        self.picture("press")
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)

    def write(self, entry: QPlainTextEdit, text: str) -> None:
        entry.setFocus()
        QTest.keyClicks(entry, text)

    # Scenes

    def bare(self) -> Scene:
        """A first start: one press, one yes, and the restart that is asked for."""
        yield lambda: self.window.pipeline.setup.obstacle is not None and self.looked
        self.press(self.train.primary)
        yield lambda: self.question(ConsentDialog)
        self.press(self.question().buttons["allow"])
        yield lambda: self.question() and "now" in self.question().buttons
        assert self.train.primary.property("action") == "restart"
        self.press(self.question().buttons["now"])
        self.tell("restarted")
        yield lambda: False

    def after_restart(self) -> Scene:
        """Opened by Windows: nothing is pressed. Until the curve grows; then this program is killed."""
        yield lambda: self.banner == "after_restart"
        self.tell("goes_on")
        yield from self.sees_steps()
        before = self.drawn
        yield from self.sees_steps()
        self.picture("curve")
        base: Any = self.train.form.rows["base_model"].editor
        self.tell("curve", before=before, after=self.drawn, base=base.edit.text())
        yield lambda: False

    def stop_and_resume(self) -> Scene:
        """The run is still there: look on, stop it, go on with it."""
        yield lambda: self.banner == "attached" and self.drawn
        yield from self.sees_steps()
        self.press(self.train.primary)
        yield lambda: self.question()
        self.press(self.question().buttons["save"])
        yield lambda: self.banner_button("action.resume")
        assert self.banner == "run_stopped"
        self.tell("stopped")
        self.press(self.banner_button("action.resume"))
        yield from self.sees_steps()
        self.tell("resumed")
        yield lambda: False

    def after_power_cut(self) -> Scene:
        """What was cut off with the computer is offered, and gone on with; then Linux crashes, and again."""
        yield lambda: self.banner == "interrupted" and self.drawn
        self.press(self.train.primary)
        yield from self.sees_steps()
        self.expects_failure = True
        self.tell("resumed")
        yield lambda: self.banner_button("action.resume")
        self.picture("crashed")
        self.tell("crashed", banner=self.banner)
        self.press(self.banner_button("action.resume"))
        yield lambda: self.banner == "run_completed"
        yield from self._merge_and_chat()

    def _merge_and_chat(self) -> Scene:
        self.press(self.banner_button("checkpoints.merge"))
        yield lambda: self.train.flow.merge_dialog
        dialog: Any = self.train.flow.merge_dialog
        self.press(dialog.merge)
        yield dialog.use.isVisible
        self.tell("merged")
        self.press(dialog.use)
        chat = self.window.talk_pages.chat
        yield lambda: chat.isVisible() and chat.entry.send.isEnabled()
        self.write(chat.entry.field, "How do you make tea?")
        self.press(chat.entry.send)
        turns = chat.talk.conversation.turns
        yield lambda: len(turns) == 2 and not chat.talk.is_answering
        self.picture("chat")
        self.tell("answer", text=turns[1].content)

    @property
    def looked(self) -> bool:
        """Whether the first look at everything is over."""
        obstacle = self.window.pipeline.setup.obstacle
        return obstacle is not None and obstacle.state is State.MISSING and self.train.primary.isEnabled()


def main() -> int:
    scene, *arguments = sys.argv[1:]

    class Watched(app.MainWindow):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.person = Person(self, scene)

    app.MainWindow = Watched  # type: ignore[misc]
    return app.main(arguments)


if __name__ == "__main__":
    sys.exit(main())

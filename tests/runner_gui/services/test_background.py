from __future__ import annotations

import threading
from typing import Any

from pytestqt.qtbot import QtBot

from runner_gui.services.background import Background


def test_work_is_done_in_a_thread_and_told_in_the_windows(qtbot: QtBot) -> None:
    background = Background()
    told: list[tuple[Any, int]] = []
    for work in (threading.get_ident, lambda: 1 // 0):
        background.submit(work, lambda outcome: told.append((outcome, threading.get_ident())))
    qtbot.waitUntil(lambda: len(told) == 2)
    background.close()
    (worker, first), (failure, second) = told
    assert worker != threading.get_ident()
    assert isinstance(failure, ZeroDivisionError)
    assert first == second == threading.get_ident()

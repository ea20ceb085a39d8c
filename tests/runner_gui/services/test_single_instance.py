from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.services.single_instance import SingleInstance

PROJECT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from PySide6.QtCore import QCoreApplication
from runner_gui.services.single_instance import SingleInstance
application = QCoreApplication([])
instance = SingleInstance(Path(sys.argv[2]))
instance.show_requested.connect(lambda: (print("shown", flush=True), application.quit()))
print(instance.claim(), flush=True)
application.exec()
"""


def holder(root: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLDER, str(PROJECT), str(root)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_second_start_shows_the_first_window(qapp: QApplication, tmp_path: Path) -> None:
    root = tmp_path / "工作 folder"
    with holder(root) as first:
        second = SingleInstance(root)
        assert not second.claim()
        second.ask_to_show()  # what was heard counts: the first may hang up before it is told that
        assert first.communicate(timeout=60)[0] == "shown\n"
    assert second.claim()
    second.close()


def test_one_that_was_killed_holds_up_nobody(qapp: QApplication, tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        os.kill(first.pid, signal.SIGKILL)
    second = SingleInstance(tmp_path)
    assert second.claim()
    second.close()


def test_other_folders_have_windows_of_their_own(qapp: QApplication, tmp_path: Path) -> None:
    one, other = SingleInstance(tmp_path / "a"), SingleInstance(tmp_path / "b")
    assert one.claim()
    assert other.claim()
    one.close()
    other.close()


def test_a_folder_that_cannot_be_written_still_gets_a_window(qapp: QApplication, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    instance = SingleInstance(tmp_path / "file" / "root")
    assert instance.claim()
    instance.close()


def test_nobody_listens(qapp: QApplication, tmp_path: Path, qtbot: QtBot) -> None:
    assert not SingleInstance(tmp_path).ask_to_show()

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from runner_gui.services import shelf as service
from runner_gui.services.shelf import FileWork, Shelf

SECONDS = 60_000


def test_the_trainer_tells_what_lies_there(qtbot: QtBot, tmp_path: Path, make_checkpoint: Any) -> None:
    folder = tmp_path / "-it's 模型"
    folder.mkdir()
    make_checkpoint(folder / "a.pth")
    (folder / "b.pth").write_bytes(b"x")
    shelf = Shelf("")
    with qtbot.waitSignal(shelf.changed, timeout=SECONDS) as told:
        shelf.look([folder, tmp_path / "none"])
        shelf.look([folder])  # while the first is under way
    assert [(entry.name, entry.kind) for entry in told.args[0]] == [("a.pth", "base"), ("b.pth", "refused")]
    with qtbot.waitSignal(shelf.changed, timeout=SECONDS):
        pass  # the second look
    with qtbot.waitSignal(shelf.changed) as empty:
        shelf.look([tmp_path / "none"])
    assert empty.args[0] == []
    shelf.close()


def test_hashing(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "BLOCK_BYTES", 1000)
    data = os.urandom(2500)
    (tmp_path / "a.pth").write_bytes(data)
    work = FileWork()
    seen: list[tuple[int, int]] = []
    work.progressed.connect(lambda done, total: seen.append((done, total)))
    with qtbot.waitSignals([work.hashed, work.idle]):
        work.hash(tmp_path / "a.pth")
        assert work.is_busy
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
    told: list[str] = []
    work.hashed.connect(lambda _, digest: told.append(digest))
    with qtbot.waitSignal(work.idle):
        work.hash(tmp_path / "a.pth")
    assert told == [hashlib.sha256(data).hexdigest()]
    with qtbot.waitSignal(work.failed) as failed:
        work.hash(tmp_path / "none.pth")
    assert failed.args[0].code == "model_not_found"
    work.close()


def test_copying_never_overwrites(qtbot: QtBot, tmp_path: Path) -> None:
    source, folder = tmp_path / "m 型.pth", tmp_path / "models"
    source.write_bytes(b"new")
    work = FileWork()
    for _ in range(2):
        with qtbot.waitSignals([work.copied, work.idle]):
            work.copy_in(source, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["m 型-2.pth", "m 型.pth"]
    assert (folder / "m 型-2.pth").read_bytes() == b"new"
    (tmp_path / "file").write_text("in the way")
    with qtbot.waitSignal(work.failed) as failed:
        work.copy_in(source, tmp_path / "file")
    assert failed.args[0].code == "not_writable"
    work.close()


def test_what_is_cancelled_leaves_nothing(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BLOCK_BYTES", 1)
    source, folder = tmp_path / "m.pth", tmp_path / "models"
    source.write_bytes(bytes(200_000))
    work = FileWork()
    with qtbot.waitSignal(work.idle):
        work.copy_in(source, folder)
        work.cancel()
    assert list(folder.glob("*")) == []
    with qtbot.waitSignal(work.hashed):  # and the next work is done
        source.write_bytes(b"x")
        work.hash(source)
    work.close()

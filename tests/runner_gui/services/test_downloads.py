"""The queue of downloads, from a real server on this machine."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from runner_gui.model.catalogue import Catalogue, Offer, Repository, Source
from runner_gui.model.transfers import Rate, eta_s
from runner_gui.model.workspace import Workspace
from runner_gui.services.catalogue import CatalogueKeeper
from runner_gui.services.downloads import Downloads
from wsl_bootstrap.options import SetupOptions

SECONDS = 60_000
CONTENT = bytes(range(256)) * 8000  # 2 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
A, B = "rwkv-a.pth", "rwkv-b.pth"


def path_of(name: str, mirror: str = "one") -> str:
    return f"/{mirror}/r/resolve/main/{name}"


def catalogue(server: Any, sha256: str | None = SHA256, size_bytes: int | None = len(CONTENT)) -> Catalogue:
    """Two files on two mirrors."""
    sources = [Source(kind="hub", at=f"{server.url}/{mirror}", repository="r") for mirror in ("one", "two")]
    offers = [Offer(name=name, repository="r", size_bytes=size_bytes, sha256=sha256) for name in (A, B)]
    return Catalogue(repositories={"r": Repository(family="F", sources=tuple(sources))}, models=tuple(offers))


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "工作 w")
    made.prepare()
    return made


@pytest.fixture
def make(qtbot: QtBot, space: Workspace) -> Iterator[Callable[[Catalogue], Downloads]]:
    made: list[Downloads] = []

    def start(offered: Catalogue) -> Downloads:
        keeper = CatalogueKeeper(space, catalogue=offered)
        made.append(Downloads(space, keeper=keeper, options=SetupOptions, timeout_s=5))
        return made[-1]

    yield start
    for downloads in made:
        downloads.close()


def state(downloads: Downloads, name: str) -> str:
    one = downloads.get(name)
    return one.state if one is not None else "gone"


def test_one_after_the_other(file_server: Any, space: Workspace, make: Any, qtbot: QtBot) -> None:
    for name in (A, B):
        file_server.serve(path_of(name), CONTENT, paced=True)
    downloads = make(catalogue(file_server))
    finished: list[Path] = []
    downloads.finished.connect(finished.append)
    for offer in downloads.keeper.catalogue.models:
        downloads.add(offer)
        downloads.add(offer)  # once is enough
    assert [(t.name, t.state) for t in downloads.transfers] == [(A, "running"), (B, "queued")]
    file_server.released.set()
    qtbot.waitUntil(lambda: len(finished) == 2, timeout=SECONDS)
    assert finished == [space.models / A, space.models / B]
    assert (space.models / B).read_bytes() == CONTENT
    assert downloads.transfers == []
    downloads.add(downloads.keeper.catalogue.models[0])  # it is there
    assert downloads.transfers == []
    assert sorted(p.name for p in space.models.iterdir()) == [A, B]


def test_pausing_keeps_what_came_and_lets_the_next_one_go(
    file_server: Any, space: Workspace, make: Any, qtbot: QtBot
) -> None:
    file_server.serve(path_of(A), CONTENT, stalls_at=500_000)
    file_server.serve(path_of(B), CONTENT)
    downloads = make(catalogue(file_server))
    for offer in downloads.keeper.catalogue.models:
        downloads.add(offer)
    part = space.models / f"{A}.part"
    qtbot.waitUntil(lambda: part.is_file() and part.stat().st_size >= 400_000, timeout=SECONDS)
    downloads.pause(A)
    qtbot.waitUntil(
        lambda: state(downloads, B) == "gone" and state(downloads, A) == "paused", timeout=SECONDS
    )
    kept = part.stat().st_size
    assert kept >= 400_000
    file_server.serve(path_of(A), CONTENT)
    downloads.resume(A)
    qtbot.waitUntil(lambda: state(downloads, A) == "gone", timeout=SECONDS)
    assert (path_of(A), f"bytes={kept}-", None) in file_server.asked
    assert (space.models / A).read_bytes() == CONTENT


def test_cancelling_leaves_nothing(file_server: Any, space: Workspace, make: Any, qtbot: QtBot) -> None:
    file_server.serve(path_of(A), CONTENT, stalls_at=500_000)
    downloads = make(catalogue(file_server))
    for offer in downloads.keeper.catalogue.models:
        downloads.add(offer)
    downloads.cancel(B)
    assert state(downloads, B) == "gone"
    qtbot.waitUntil(lambda: (space.models / f"{A}.part").is_file(), timeout=SECONDS)
    downloads.cancel(A)
    qtbot.waitUntil(lambda: state(downloads, A) == "gone", timeout=SECONDS)
    assert list(space.models.iterdir()) == []


def test_the_next_mirror_has_it(file_server: Any, space: Workspace, make: Any, qtbot: QtBot) -> None:
    file_server.serve(path_of(A), CONTENT[::-1])
    file_server.serve(path_of(A, "two"), CONTENT)
    downloads = make(catalogue(file_server))
    with qtbot.waitSignal(downloads.finished, timeout=SECONDS):
        downloads.add(downloads.keeper.catalogue.models[0])
    assert (space.models / A).read_bytes() == CONTENT


def test_a_failure_is_told_and_can_be_tried_again(
    file_server: Any, space: Workspace, make: Any, qtbot: QtBot
) -> None:
    for mirror in ("one", "two"):
        file_server.serve(path_of(A, mirror), CONTENT[::-1])
    downloads = make(catalogue(file_server))
    with qtbot.waitSignal(downloads.failed, timeout=SECONDS) as failed:
        downloads.add(downloads.keeper.catalogue.models[0])
    assert failed.args is not None
    assert (failed.args[0].id, failed.args[1]) == ("download_mismatch", A)
    assert state(downloads, A) == "failed"
    assert list(space.models.iterdir()) == []
    file_server.serve(path_of(A), CONTENT)
    with qtbot.waitSignal(downloads.finished, timeout=SECONDS):
        downloads.resume(A)


def test_a_folder_that_cannot_be_written_to_is_told(
    file_server: Any, space: Workspace, make: Any, qtbot: QtBot
) -> None:
    file_server.serve(path_of(A), CONTENT)
    space.use_models_folder(str(space.settings_file / "below a file"))
    space.settings_file.write_text("{}")
    downloads = make(catalogue(file_server))
    with qtbot.waitSignal(downloads.failed, timeout=SECONDS) as failed:
        downloads.add(downloads.keeper.catalogue.models[0])
    assert failed.args is not None
    assert failed.args[0].code == "not_writable"


KILLED = """
import sys
from pathlib import Path
from PySide6.QtCore import QCoreApplication
from runner_gui.model.catalogue import Catalogue
from runner_gui.model.workspace import Workspace
from runner_gui.services.catalogue import CatalogueKeeper
from runner_gui.services.downloads import Downloads
from wsl_bootstrap.options import SetupOptions
app = QCoreApplication([])
space = Workspace(Path(sys.argv[1]))
keeper = CatalogueKeeper(space, catalogue=Catalogue.model_validate_json(sys.argv[2]))
downloads = Downloads(space, keeper=keeper, options=SetupOptions)
for offer in keeper.catalogue.models:
    downloads.add(offer)
app.exec()
"""


def test_a_killed_app_goes_on_where_it_was(
    file_server: Any, space: Workspace, make: Any, qtbot: QtBot
) -> None:
    file_server.serve(path_of(A), CONTENT, stalls_at=700_000)
    file_server.serve(path_of(B), CONTENT)
    offered = catalogue(file_server)
    command = [sys.executable, "-c", KILLED, str(space.root), offered.model_dump_json()]
    with subprocess.Popen(command) as app:
        part = space.models / f"{A}.part"
        qtbot.waitUntil(lambda: part.is_file() and part.stat().st_size >= 600_000, timeout=SECONDS)
        app.send_signal(signal.SIGKILL)
    kept = part.stat().st_size
    file_server.serve(path_of(A), CONTENT)
    downloads = make(offered)
    downloads.load()
    first = downloads.get(A)
    assert first is not None
    assert first.done_bytes == kept
    qtbot.waitUntil(lambda: downloads.transfers == [], timeout=SECONDS)
    assert (path_of(A), f"bytes={kept}-", None) in file_server.asked
    assert (space.models / A).read_bytes() == (space.models / B).read_bytes() == CONTENT


def test_what_was_paused_stays_so(file_server: Any, space: Workspace, make: Any) -> None:
    file_server.serve(path_of(A), CONTENT, paced=True)
    before = make(catalogue(file_server))
    before.prefer("two.example")
    for offer in before.keeper.catalogue.models:
        before.add(offer)
    before.pause(B)
    before.close()
    after = make(catalogue(file_server))
    after.load()
    assert (state(after, A), state(after, B), after.preferred) == ("running", "paused", "two.example")


@pytest.mark.parametrize("content", ["", "[]", '{"transfers": 3}', '{"version": 9}'])
def test_a_broken_file_is_forgotten(file_server: Any, space: Workspace, make: Any, content: str) -> None:
    space.downloads_file.write_text(content)
    downloads = make(catalogue(file_server))
    downloads.load()
    assert downloads.transfers == []


def test_the_catalogue_is_refreshed_from_the_first_server_that_answers(
    file_server: Any, space: Workspace, make: Any, qtbot: QtBot
) -> None:
    downloads = make(catalogue(file_server))
    with qtbot.waitSignal(downloads.keeper.failed, timeout=SECONDS) as failed:
        downloads.refresh()
    assert failed.args is not None
    assert failed.args[0].id == "download_failed"
    listed = [{"path": "rwkv-new.pth", "size": 7, "lfs": {"oid": "ab" * 32}}]
    file_server.serve("/one/api/models/r/tree/main", b"<html>sign in</html>")
    file_server.serve("/two/api/models/r/tree/main", json.dumps(listed).encode())
    qtbot.waitUntil(lambda: not downloads.keeper.is_refreshing)
    downloads.refresh()
    qtbot.waitUntil(lambda: downloads.keeper.offer("rwkv-new.pth") is not None, timeout=SECONDS)
    assert space.catalogue_file.is_file()


def test_closing_does_not_wait_for_a_server_that_says_nothing(
    file_server: Any, space: Workspace, make: Any, qtbot: QtBot
) -> None:
    file_server.serve("/one/api/models/r/tree/main", b"[]", paced=True)
    file_server.serve(path_of(A), CONTENT, paced=True)
    downloads = make(catalogue(file_server))
    downloads.add(downloads.keeper.catalogue.models[0])
    downloads.refresh()
    qtbot.waitUntil(lambda: len(file_server.asked) == 2, timeout=SECONDS)
    downloads.close()  # and the test would not end, were it waited for
    assert not file_server.released.is_set()
    assert downloads.keeper.is_refreshing


def test_the_rate_is_of_the_last_seconds() -> None:
    rate = Rate()
    assert rate.note(0.0, 0) is None
    assert rate.note(0.5, 50) is None
    assert rate.note(2.0, 2000) == 1000
    for second in range(3, 30):
        last = rate.note(float(second), 2000 + (second - 2) * 10)
    assert last == pytest.approx(10)
    assert rate.note(30.0, 0) is None  # it began anew
    assert eta_s(50, 150, 10.0) == 10
    assert eta_s(50, None, 10.0) is eta_s(50, 150, None) is eta_s(50, 150, 0.0) is None

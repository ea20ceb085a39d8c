from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from runner_gui import app
from runner_gui.i18n import tr
from runner_gui.model import settings as settings_file
from runner_gui.model.packages import licence_of, packages
from runner_gui.model.settings import Settings
from runner_gui.services import updates
from runner_gui.window import MainWindow

SECONDS = 60_000


def git(root: Path, *args: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(root), *identity, *args], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout whose origin is a folder beside it."""
    origin, here = tmp_path / "origin 源", tmp_path / "here"
    origin.mkdir()
    git(origin, "init", "-b", "main")
    git(origin, "commit", "--allow-empty", "-m", "one")
    git(tmp_path, "clone", str(origin), str(here))
    return here


def test_a_checkout_is_compared_with_where_it_came_from(clone: Path) -> None:
    origin = clone.parent / "origin 源"
    assert updates.look_for_update(clone) == "current"
    git(clone, "commit", "--allow-empty", "-m", "own work")
    assert updates.look_for_update(clone) == "current"
    git(origin, "commit", "--allow-empty", "-m", "two")
    assert updates.look_for_update(clone) == "newer"
    origin.rename(clone.parent / "gone")
    assert updates.look_for_update(clone) == "unreachable"


def test_what_is_no_checkout_is_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert updates.look_for_update(tmp_path) == "package"
    monkeypatch.setattr(updates.shutil, "which", lambda name: None)
    assert updates.look_for_update() == "package"


def test_the_page_says_what_came_of_looking(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = window.settings_page
    for answer in ("current", "newer", "package", "unreachable"):
        monkeypatch.setattr("runner_gui.pages.settings.look_for_update", lambda a=answer: a)
        page.check.click()
        qtbot.waitUntil(page.check.isEnabled, timeout=SECONDS)
        assert page.helps["updates"].text() == tr(f"settings.updates_{answer}")


def test_every_choice_is_kept(window: MainWindow) -> None:
    page = window.settings_page
    page.scale.setCurrentIndex(page.scale.findData(150))
    page.notifications.click()
    page.take_python("/opt/python 3/bin/python")
    assert page.python.full_text() == "/opt/python 3/bin/python"
    window.save_settings()
    stored = settings_file.load(window.workspace.settings_file)
    assert (stored.scale, stored.notifications) == (150, False)
    assert stored.interpreter == "/opt/python 3/bin/python"
    page.reset_python.click()
    assert page.python.full_text() == tr("settings.python_own")
    assert window.settings.interpreter == ""


def test_the_scale_is_told_to_qt_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QT_SCALE_FACTOR", raising=False)
    app._prepare_platform(Settings())
    assert "QT_SCALE_FACTOR" not in app.os.environ
    app._prepare_platform(Settings(scale=150))
    assert app.os.environ["QT_SCALE_FACTOR"] == "1.5"
    app._prepare_platform(Settings(scale=200))
    assert app.os.environ["QT_SCALE_FACTOR"] == "1.5"  # what the person's environment says comes first
    monkeypatch.delenv("QT_SCALE_FACTOR")


def test_the_buttons_lead_on(window: MainWindow) -> None:
    window.settings_page.sources.click()
    assert window.environment_page.sources is not None
    window.environment_page.sources.close()
    window.show_page("settings")
    window.settings_page.guide.click()
    assert window._guide is not None
    assert window._guide.isVisible()


def test_about_names_every_package_with_its_licence(window: MainWindow) -> None:
    found = {package.name: package for package in packages()}
    assert {"rwkv-lora-runner", "numpy", "pydantic", "torch"} <= set(found)
    assert [name for name, package in found.items() if not package.licence] == []
    assert all("\n" not in package.licence for package in found.values())
    window.about_page.copy.click()
    copied = QGuiApplication.clipboard().text().splitlines()
    assert f"Python {sys.version.split()[0]}" in copied
    assert len(copied) == len(window.about_page.versions)


def test_a_package_that_names_no_licence(tmp_path: Path) -> None:
    from email.message import Message

    data = Message()
    data["Name"] = "x"
    assert licence_of(data) == ""  # type: ignore[arg-type]
    data["License"] = "A whole\nlicence text"
    assert licence_of(data) == ""  # type: ignore[arg-type]
    data["Classifier"] = "License :: OSI Approved :: MIT License"
    assert licence_of(data) == "MIT License"  # type: ignore[arg-type]
    data["License-Expression"] = "MIT"
    assert licence_of(data) == "MIT"  # type: ignore[arg-type]


def test_a_report_is_one_file(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    page, path = window.about_page, tmp_path / "报告 1.zip"
    page.save_report(path)
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert page.banner.notice is not None
    assert page.banner.notice.kind == "success"
    with zipfile.ZipFile(path) as archive:
        assert {"report.txt", "packages.txt"} <= set(archive.namelist())
        assert "numpy" in archive.read("packages.txt").decode()


def test_a_report_that_cannot_be_written_says_so(window: MainWindow, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    page = window.about_page
    page.save_report(tmp_path / "file" / "report.zip")
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert page.banner.notice is not None
    assert page.banner.notice.kind == "error"
    assert page.report.isEnabled()

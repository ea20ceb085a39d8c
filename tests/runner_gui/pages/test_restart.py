"""A restart of Windows in the middle of set-up, as a person meets it: one press before, none after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from runner_gui.model import settings as settings_file
from runner_gui.model.workspace import Workspace
from runner_gui.services import pipeline as pipeline_module
from runner_gui.services.setup_follower import SETUP_STEPS
from runner_gui.window import MainWindow
from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.step import Check, OnEvent, Outcome, Plan, Probe

SECONDS = 60_000


@dataclass(frozen=True)
class Made:
    """There once it was made, and with `reboot` from the next boot on."""

    id: str
    folder: Path
    reboot: bool = False
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        file = self.folder / self.id
        there = file.exists() and not (self.reboot and file.read_text() == host.facts().boot_id)
        return Probe.satisfied("1") if there else Probe.missing(make_code("packages_missing", packages="x"))

    def plan(self, host: Host, options: object) -> Plan:
        return Plan(self.id, (("make", self.id),), admin=self.reboot, reboot=self.reboot)

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        (self.folder / self.id).write_text(host.facts().boot_id)
        return Outcome(reboot=self.reboot)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Windows on which a feature is off and a distribution is missing; everything else is there."""
    made = {"wsl_feature": Made("wsl_feature", tmp_path, reboot=True)}
    made["distro"] = Made("distro", tmp_path, requires=("wsl_feature",))
    steps: tuple[Check, ...] = tuple(made.get(step, There(step)) for step in SETUP_STEPS)
    monkeypatch.setattr(pipeline_module, "setup_steps", lambda *_: steps)
    file = tmp_path / "facts.json"
    file.write_text(json.dumps({"facts": {"boot_id": "1"}, "drives": {"C": str(tmp_path)}}), "utf-8")
    monkeypatch.setenv("RUNNER_WINDOWS_FACTS", str(file))
    monkeypatch.setenv("RUNNER_WSL_EXE", "/bin/false")
    return tmp_path


@dataclass(frozen=True)
class There:
    """A step with nothing to do."""

    id: str
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        return Probe.satisfied("1")


@pytest.fixture
def open_window(dressed: QApplication, world: Path, qtbot: QtBot) -> Iterator[Callable[[], MainWindow]]:
    """Opens the window as the program does, with what it remembers; the one before is closed."""
    opened: list[MainWindow] = []

    def make() -> MainWindow:
        close()
        workspace = Workspace(world / "工作 work")
        window = MainWindow(workspace, settings_file.load(workspace.settings_file))
        opened.append(window)
        window.show()
        return window

    def close() -> None:
        for window in opened:
            window.close()
            window.deleteLater()
        opened.clear()

    yield make
    close()


def answer(qtbot: QtBot, window: MainWindow, choice: str) -> None:
    def button() -> QPushButton | None:
        question = window.environment_page.question
        return question.buttons.get(choice) if question is not None and question.isVisible() else None

    qtbot.waitUntil(lambda: button() is not None, timeout=SECONDS)
    found = button()
    assert found is not None
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


def test_set_up_goes_on_by_itself_after_the_restart(
    open_window: Callable[[], MainWindow], world: Path, qtbot: QtBot
) -> None:
    window = open_window()
    window.show_page("environment")
    page = window.environment_page
    qtbot.waitUntil(page.primary.isEnabled, timeout=SECONDS)
    qtbot.mouseClick(page.primary, Qt.MouseButton.LeftButton)
    answer(qtbot, window, "allow")
    answer(qtbot, window, "now")
    script = json.loads((world / "facts.json").read_text("utf-8"))
    assert script["facts"]["boot_id"] == "1+"
    assert script["run_once"][-3:] == ["-m", "runner_gui", f"--work-dir={world / '工作 work'}"]

    window = open_window()
    qtbot.waitUntil(lambda: window.pipeline.setup.obstacle is None, timeout=SECONDS)
    assert (world / "distro").exists()
    assert window.environment_page.question is None
    qtbot.waitUntil(lambda: not window.pipeline.is_busy, timeout=SECONDS)
    assert window.pipeline.interrupted_by_restart == ""  # settled


def test_until_then_the_button_is_about_the_restart(
    open_window: Callable[[], MainWindow], world: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = open_window()
    window.show_page("environment")
    qtbot.waitUntil(window.environment_page.primary.isEnabled, timeout=SECONDS)
    window.environment_page.press_primary()
    answer(qtbot, window, "allow")
    answer(qtbot, window, "later")
    window.settings.asked_for = "train"  # as the Train page's button would have it

    window = open_window()  # without a restart
    started: list[Any] = []
    monkeypatch.setattr(window.pipeline, "start", lambda *args: started.append(args))
    window.show_page("train")
    primary = window.train_page.primary
    qtbot.waitUntil(lambda: primary.property("action") == "restart", timeout=SECONDS)
    assert not started
    qtbot.mouseClick(primary, Qt.MouseButton.LeftButton)
    answer(qtbot, window, "now")

    window = open_window()
    monkeypatch.setattr(window.pipeline, "start", lambda *args: started.append(args))
    qtbot.waitUntil(lambda: bool(started), timeout=SECONDS)
    notice = window.train_page.banner.notice
    assert notice is not None
    assert notice.key == "after_restart"

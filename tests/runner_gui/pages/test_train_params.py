"""Presets, files and the command, as the form's head offers them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from runner_gui.model import settings as settings_file
from runner_gui.model.workspace import Workspace
from runner_gui.window import MainWindow


def choose(window: MainWindow, purpose: str, effort: str = "") -> None:
    bar = window.train_page.panel.presets
    bar.purpose.setCurrentIndex(bar.purpose.findData(purpose))
    if effort:
        bar.effort.setCurrentIndex(bar.effort.findData(effort))


def test_a_preset_fills_the_form_and_can_be_undone(window: MainWindow, tmp_path: Path) -> None:
    page = window.train_page
    state = page.form_state
    state.set("lora_r", 7)
    before = dict(state.values)
    choose(window, "novel")
    assert (state.values["ctx_len"], state.values["loss_mask"]) == (4096, "all")
    assert page.banner.title.text() == "The form starts from “Novel · Standard”."
    assert page.form.rows["lora_r"].dot.isHidden()
    page.banner.buttons[0].click()
    assert state.values == before
    assert page.panel.presets.purpose.currentData() == "demo"
    assert page.banner.notice is None


def test_the_preset_and_what_differs_from_it_are_kept(window: MainWindow, qtbot: QtBot) -> None:
    choose(window, "dialogue", "quick")
    window.train_page.form_state.set("ctx_len", 272)
    window.save_settings()
    stored = settings_file.load(window.workspace.settings_file)
    assert (stored.preset, stored.last_params) == ("dialogue.quick", {"ctx_len": 272})
    again = MainWindow(Workspace(window.workspace.root), stored)
    qtbot.addWidget(again)
    state = again.train_page.form_state
    assert (state.values["ctx_len"], state.values["epoch_count"]) == (272, 1)
    assert again.train_page.panel.presets.effort.currentData() == "quick"
    again.close()


def test_parameters_go_to_a_file_and_come_back(window: MainWindow, tmp_path: Path) -> None:
    page = window.train_page
    page.form_state.set("ctx_len", 272)
    path = tmp_path / "参数 1.json"
    page.params.save(path)
    choose(window, "novel")
    page.params.load(path)
    assert page.form_state.values["ctx_len"] == 272
    assert page.form_state.is_changed("ctx_len")
    page.params.load(tmp_path / "none.json")
    assert page.banner.notice is not None
    assert page.banner.notice.kind == "error"
    assert page.form_state.values["ctx_len"] == 272


def test_parameters_travel_over_the_clipboard(window: MainWindow) -> None:
    page = window.train_page
    page.form_state.set("ctx_len", 272)
    page.params.ask_copy()
    assert str(Path.home()) not in QGuiApplication.clipboard().text()
    choose(window, "novel")
    page.params.ask_paste()
    assert page.form_state.values["ctx_len"] == 272
    QGuiApplication.clipboard().setText("no parameters")
    page.params.ask_paste()
    assert page.banner.notice is not None
    assert page.banner.notice.kind == "error"


def test_the_command_is_the_one_that_a_start_would_run(window: MainWindow, tmp_path: Path) -> None:
    page = window.train_page
    page.form_state.set("ctx_len", 272)
    dialog = page.params.ask_command()
    assert dialog is not None
    dialog.copy.click()
    argv = shlex.split(QGuiApplication.clipboard().text())
    assert argv[0] == sys.executable
    assert argv[argv.index("-m") :][:3] == ["-m", "trainer", "train"]
    assert "--ctx-len=272" in argv
    assert f"--data={page.form_state.values['data']}" in argv
    assert any(arg.startswith(f"--run-dir={window.workspace.runs}") for arg in argv)
    assert not window.workspace.runs.exists()
    dialog.accept()
    page.form_state.set("patience", 3)
    page.form_state.set("val_fraction", 0.0)
    assert page.params.ask_command() is None

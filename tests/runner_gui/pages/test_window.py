"""The window as a person meets it: words, keys, the one button, dialogs; and once with the real trainer."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QApplication, QCheckBox, QLabel, QPushButton, QToolButton, QWidget
from pytestqt.qtbot import QtBot

from runner_gui.i18n import LANGUAGES, catalogue, set_language, tr
from runner_gui.model import settings as settings_file
from runner_gui.model.run_store import RunStore
from runner_gui.model.series import CheckpointRow
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.widgets.banner import Notice
from runner_gui.widgets.consent_dialog import ConsentDialog
from runner_gui.widgets.controls import ElidedLabel
from runner_gui.widgets.dialogs import Question, close_dialog, stop_dialog
from runner_gui.widgets.merge_dialog import MergeDialog, MergeFacts
from runner_gui.window import MainWindow
from trainer.contract.errors import Problem
from wsl_bootstrap.step import Plan

PROJECT = Path(__file__).resolve().parents[3]
SECONDS = 120_000
QUICK = {
    "ctx_len": 64, "epoch_steps": 4, "epoch_count": 3, "accumulate_grad_batches": 1, "precision": "fp32",
    "grad_cp": False, "lora_r": 4, "lora_alpha": 8.0, "device": "cpu", "sample_prompts": (),
    "val_fraction": 0.0, "epoch_save": 1, "micro_bsz": 1,
}  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "工作 folder"


@pytest.fixture
def window(dressed: QApplication, qtbot: QtBot, work: Path) -> Iterator[MainWindow]:
    # Not given to qtbot, which would delete it, pipeline and all, before its run has ended.
    made = MainWindow(Workspace(work), Settings(language="en"))
    made._loaded = True  # probes take seconds to end; whoever needs them calls `load`
    made.show()
    yield made
    end_of(made, qtbot)


def end_of(window: MainWindow, qtbot: QtBot) -> None:
    """Leave no trainer and no thread."""
    if window.pipeline.is_training:
        window.pipeline.stop(save=False)
        qtbot.waitUntil(lambda: not window.pipeline.is_training, timeout=SECONDS)
    window._closing = True
    window.close()
    window.deleteLater()


def click(qtbot: QtBot, target: QWidget) -> None:
    qtbot.mouseClick(target, Qt.MouseButton.LeftButton)


def texts(root: QWidget) -> list[tuple[QWidget, str]]:
    kinds = (QLabel, QPushButton, QToolButton, QCheckBox)
    widgets = [widget for kind in kinds for widget in root.findChildren(kind)]
    return [(widget, widget.text()) for widget in widgets if widget.isVisible() and widget.text()]


def cut_off(root: QWidget) -> list[str]:
    """Visible labels and buttons whose text needs more room than they have."""
    found = []
    for widget, text in texts(root):
        if isinstance(widget, ElidedLabel):
            continue
        if isinstance(widget, QLabel) and widget.wordWrap():
            short = widget.heightForWidth(widget.width()) > widget.height() + 1
        elif isinstance(widget, QToolButton):  # its size hint adds the style's own room to ours
            icon = 0 if widget.icon().isNull() else widget.iconSize().width() + 8
            short = widget.fontMetrics().horizontalAdvance(text) + icon > widget.width() - 4
        else:
            short = widget.sizeHint().width() > widget.width() + 1
        if short:
            found.append(text)
    return found


def all_fits(root: QWidget, qtbot: QtBot) -> None:
    """Wait for the layout to settle; then nothing may be cut off."""

    def check() -> None:
        assert cut_off(root) == []

    qtbot.waitUntil(check, timeout=3000)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("size", [(1024, 700), (1280, 800)])
@pytest.mark.parametrize("advanced", [False, True])
def test_nothing_is_cut_off(
    window: MainWindow, qtbot: QtBot, language: str, size: tuple[int, int], advanced: bool
) -> None:
    set_language(language)
    window.resize(*size)
    (window.train_page.panel.advanced if advanced else window.train_page.panel.simple).click()
    for page in window.nav:
        window.show_page(page)
        all_fits(window, qtbot)
    assert (window.width(), window.height()) == size


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_running_page_is_not_cut_off_at_the_smallest_size(
    window: MainWindow, qtbot: QtBot, language: str
) -> None:
    set_language(language)
    window.resize(1024, 700)
    page = window.train_page
    page.run_view.show_work("work.starting")
    page.room.show_run()
    page.banner.show_notice(Notice("error", problem=Problem("oom_vram"), details="x"))
    point = CheckpointRow(160, "periodic", "ckpt/000160", 92_000_000, 2.168, 2.201, True)
    page.run_view.series.checkpoints = [point]
    page.run_view._refresh()
    for tab in ("checkpoints", "samples", "log"):
        page.run_view.set_tab(tab)
        all_fits(window, qtbot)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_dialog_is_cut_off(window: MainWindow, qtbot: QtBot, language: str, tmp_path: Path) -> None:
    set_language(language)
    facts = MergeFacts(tmp_path, 240, "base.pth", tmp_path / "out.pth", 10**9, 10**10, 32.0, 16)
    command = ("pip", "install", "torch")
    plan = Plan("torch_env", (command,), admin=True, reboot=True, download_bytes=2 * 10**9, disk_bytes=10**9)
    dialogs: list[Any] = [
        stop_dialog(window, 200),
        close_dialog(window),
        ConsentDialog([plan], str(tmp_path), window),
        MergeDialog(facts, window),
    ]
    for dialog in dialogs:
        dialog.show()
        all_fits(dialog, qtbot)
        dialog.close()


def test_another_language_reaches_every_visible_word(window: MainWindow, qtbot: QtBot) -> None:
    window.train_page.panel.advanced.click()
    qtbot.wait(30)
    english = set(catalogue("en").values())
    same = set(catalogue("zh_CN").values())
    set_language("zh_CN")
    qtbot.wait(30)
    left = [text for _, text in texts(window) if text in english - same]
    assert left == []
    assert window.windowTitle() == "训练 – RWKV LoRA Runner"
    assert window.nav["settings"].text() == "设置"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_widget_shows_a_key(window: MainWindow, qtbot: QtBot, language: str) -> None:
    set_language(language)
    window.train_page.panel.advanced.click()
    for page in window.nav:
        window.show_page(page)
        qtbot.wait(30)
        keys = set(catalogue(language))
        assert [text for _, text in texts(window) if text in keys or "{" in text] == []


def test_everything_that_can_be_pressed_has_a_name(window: MainWindow, qtbot: QtBot) -> None:
    for kind in (QPushButton, QToolButton):
        for widget in window.findChildren(kind):
            if widget.isVisible():
                assert widget.text() or widget.accessibleName(), widget.objectName()


def test_the_button_asks_for_what_is_missing(window: MainWindow) -> None:
    page = window.train_page
    page.form_state.set("base_model", None)
    assert page.primary.text() == "Choose a model…"
    page.form_state.set("base_model", "/models/b.pth")
    page.form_state.set("data", None)
    assert page.primary.text() == "Choose data…"
    page.form_state.set("data", "/data/d.jsonl")
    page.form_state.set("val_fraction", 0.0)
    page.form_state.set("patience", 3)
    assert page.primary.text() == "Train"
    assert not page.primary.isEnabled()
    assert page.panel.reason.text() == tr("readiness.fix_parameters")
    page.form_state.set("patience", 0)
    assert page.primary.isEnabled()


def test_settings_take_effect_at_once_and_are_kept(window: MainWindow, work: Path, qtbot: QtBot) -> None:
    page = window.settings_page
    page.language.setCurrentIndex(page.language.findData("zh_CN"))
    page.theme.setCurrentIndex(page.theme.findData("dark"))
    assert page.heading.text() == "设置"
    assert window.palette().window().color().name() == "#15171b"
    window.train_page.form_state.set("base_model", "/models/b.pth")
    window.train_page.form_state.set("ctx_len", 272)
    window.save_settings()
    stored = settings_file.load(work / "settings.json")
    assert (stored.language, stored.theme, stored.last_params["ctx_len"]) == ("zh_CN", "dark", 272)
    again = MainWindow(Workspace(work), stored)
    qtbot.addWidget(again)
    assert again.train_page.form_state.values["ctx_len"] == 272
    again._shut_down()


def test_keys_change_the_page_and_open_the_log(window: MainWindow, qtbot: QtBot) -> None:
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    place = Qt.Key(Qt.Key.Key_1 + list(window.nav).index("runs"))
    qtbot.keyClick(window, place, Qt.KeyboardModifier.ControlModifier)
    assert window.pages.currentWidget() is window.runs_page
    qtbot.keyClick(window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    assert window.pages.currentWidget() is window.train_page
    assert window.train_page.run_view.tabs["log"].isChecked()


def test_a_dropped_model_and_data_fill_the_form(window: MainWindow) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile("/somewhere/b.pth"), QUrl.fromLocalFile("/somewhere/d 数据.jsonl")])
    event = QDropEvent(
        QPoint(5, 5),
        Qt.DropAction.CopyAction,
        mime,
        Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )
    window.train_page.dropEvent(event)
    values = window.train_page.form_state.values
    assert (values["base_model"], values["data"]) == ("/somewhere/b.pth", "/somewhere/d 数据.jsonl")


@pytest.mark.parametrize("answer", ["save", "discard", "keep"])
def test_the_stop_question_answers_what_was_pressed(window: MainWindow, qtbot: QtBot, answer: str) -> None:
    dialog = stop_dialog(window, 5)
    dialog.open()
    with qtbot.waitSignal(dialog.answered) as told:
        click(qtbot, dialog.buttons[answer])
    assert told.args == [answer]


def test_escape_and_the_default_are_the_careful_answers(window: MainWindow, qtbot: QtBot) -> None:
    for make, first, last in (
        (lambda: stop_dialog(window, 5), "save", "keep"),
        (lambda: close_dialog(window), "background", "cancel"),
    ):
        dialog: Question = make()
        assert dialog.buttons[first].isDefault()
        dialog.open()
        with qtbot.waitSignal(dialog.answered) as told:
            qtbot.keyClick(dialog, Qt.Key.Key_Escape)
        assert told.args == [last]


def test_a_taken_name_and_a_full_disk_stop_a_merge_before_it_starts(
    window: MainWindow, qtbot: QtBot, tmp_path: Path
) -> None:
    (tmp_path / "taken.pth").write_bytes(b"x")
    facts = MergeFacts(tmp_path, 1, "b.pth", tmp_path / "free.pth", 100, 1000, 32.0, 16)
    dialog = MergeDialog(facts, window)
    qtbot.addWidget(dialog)
    assert dialog.merge.isEnabled()
    dialog.name.setText("taken")
    assert not dialog.merge.isEnabled()
    assert dialog.note.text() == tr("merge.name_taken")
    dialog.name.setText("../esc")
    assert dialog.output().parent == tmp_path
    full = MergeDialog(MergeFacts(tmp_path, 1, "b", tmp_path / "n.pth", 100, 10, None, None), window)
    qtbot.addWidget(full)
    assert full.note.text() == tr("merge.disk_short")


def test_the_window_shows_quickly(dressed: QApplication, qtbot: QtBot, work: Path) -> None:
    start = time.perf_counter()
    made = MainWindow(Workspace(work), Settings(language="en"))
    qtbot.addWidget(made)
    made.show()
    QApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
    assert time.perf_counter() - start < 1.5
    made._shut_down()


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = PROJECT / "tests" / "trainer" / "checkpoints.py"
    spec = importlib.util.spec_from_file_location("small_checkpoints_for_window", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    out = tmp_path_factory.mktemp("base") / "tiny 模型.pth"
    module.make_checkpoint(out, n_layer=2, n_embd=64, vocab=65536, dtype="bf16")
    return out


@pytest.fixture
def ready(window: MainWindow, base_model: Path, tmp_path: Path, qtbot: QtBot) -> MainWindow:
    data = tmp_path / "d.jsonl"
    data.write_text(
        '{"text": "User: hello\\n\\nAssistant: good day to you, friend"}\n' * 40, encoding="utf-8"
    )
    state = window.train_page.form_state
    for name, value in {**QUICK, "base_model": str(base_model), "data": str(data)}.items():
        state.set(name, value)
    window.train_page.load()
    qtbot.waitUntil(lambda: window.train_page.primary.isEnabled(), timeout=SECONDS)
    return window


def begin(window: MainWindow, qtbot: QtBot, steps: int = 1) -> None:
    click(qtbot, window.train_page.primary)
    series: Callable[[], int] = lambda: len(window.train_page.run_view.series)  # noqa: E731
    qtbot.waitUntil(lambda: series() >= steps or window.train_page.banner.notice is not None, timeout=SECONDS)
    assert series() >= steps, window.train_page.banner.title.text()


def test_from_one_press_to_a_merged_model(ready: MainWindow, qtbot: QtBot) -> None:
    page, view = ready.train_page, ready.train_page.run_view
    begin(ready, qtbot)
    assert page.primary.text() == "Stop…"
    page.form_state.set("ctx_len", 4096)
    assert page.form.rows["ctx_len"].editor.field.value() == 64  # type: ignore[attr-defined]
    assert not page.form.rows["ctx_len"].editor.isEnabled()
    qtbot.waitUntil(lambda: not ready.pipeline.is_busy and page.banner.notice is not None, timeout=SECONDS)
    assert page.banner.title.text() == "Training is complete."
    assert view.card.status.text() == "Completed"
    assert view.card.numbers.values["step"].text() == "12 / 12"
    assert view.checkpoints.table.item(0, 0).text().startswith("12")
    assert view.folder is not None
    assert view.checkpoints.table.rowCount() == len(view.folder.checkpoints())
    click(qtbot, page.banner.buttons[0])
    dialog = page.flow.merge_dialog
    assert dialog is not None
    assert dialog.facts.alpha == 8.0
    click(qtbot, dialog.merge)
    qtbot.waitUntil(lambda: dialog.use.isVisible(), timeout=SECONDS)
    output = dialog.output()
    assert output.is_file()
    click(qtbot, dialog.use)
    chat = ready.chat_page
    assert ready.pages.currentWidget() is chat
    qtbot.waitUntil(chat.entry.send.isEnabled, timeout=SECONDS)
    assert chat.picker.combo.currentText() == output.name
    chat.talk.conversation.settings.sampling.max_tokens = 8
    chat.entry.field.setPlainText("hello")
    click(qtbot, chat.entry.send)
    turns = chat.talk.conversation.turns
    qtbot.waitUntil(lambda: not chat.talk.is_answering, timeout=SECONDS)
    assert [turn.role for turn in turns] == ["user", "assistant"]
    assert chat.banner.notice is None

    ready.show_page("train")
    click(qtbot, page.banner.buttons[2])
    compare = ready.compare_page
    assert ready.pages.currentWidget() is compare
    qtbot.waitUntil(compare.entry.send.isEnabled, timeout=SECONDS)
    compare.settings.sampling.max_tokens = 8
    compare.entry.field.setPlainText("hello")
    click(qtbot, compare.entry.send)
    qtbot.waitUntil(lambda: not any(talk.is_answering for talk in compare.talks), timeout=SECONDS)
    assert [talk.conversation.turns[0].content for talk in compare.talks] == ["hello", "hello"]
    base, tuned = (side.picker.options() for side in compare.sides)
    assert base is not None
    assert tuned is not None
    assert (base.model, base.adapter) == (tuned.model, None)
    assert tuned.adapter is not None
    assert compare.banner.notice is None


def long_run(window: MainWindow) -> None:
    window.train_page.form_state.set("epoch_count", 2000)


def test_closing_while_training_asks_first(ready: MainWindow, qtbot: QtBot) -> None:
    long_run(ready)
    begin(ready, qtbot)
    ready.close()
    assert ready.isVisible()
    click(qtbot, ready.ask_close().buttons["cancel"])
    assert ready.isVisible()
    assert ready.pipeline.is_training
    ready.close()
    click(qtbot, ready.ask_close().buttons["save"])
    qtbot.waitUntil(lambda: not ready.isVisible(), timeout=SECONDS)
    run = RunStore(ready.workspace.runs).runs()[0]
    assert run.status == "stopped"
    assert run.last_checkpoint() is not None


def test_a_stopped_run_goes_on_where_the_next_window_is_asked_to(ready: MainWindow, qtbot: QtBot) -> None:
    long_run(ready)
    begin(ready, qtbot)
    ready.close()
    click(qtbot, ready.ask_close().buttons["save"])
    qtbot.waitUntil(lambda: not ready.isVisible(), timeout=SECONDS)
    stopped = RunStore(ready.workspace.runs).runs()[0]
    point = stopped.last_checkpoint()
    assert point is not None
    again = MainWindow(ready.workspace, Settings(language="en"))
    again.show()
    page = again.train_page
    qtbot.waitUntil(lambda: page.banner.notice is not None, timeout=SECONDS)
    assert page.primary.text() == "Train"
    assert page.run_view.card.numbers.values["left"].text() == "—"
    (resume,) = [shown for shown in page.banner.buttons if shown.text() == "Resume training"]
    click(qtbot, resume)
    qtbot.waitUntil(
        lambda: (
            again.pipeline.is_training
            and (page.run_view.series.last or {"step": 0})["step"] > point.meta.step
        ),
        timeout=SECONDS,
    )
    assert len(RunStore(ready.workspace.runs).runs()) == 1
    end_of(again, qtbot)


def test_a_run_goes_on_without_the_window_and_the_next_one_shows_it(ready: MainWindow, qtbot: QtBot) -> None:
    long_run(ready)
    begin(ready, qtbot)
    ready.close()
    click(qtbot, ready.ask_close().buttons["background"])
    assert not ready.isVisible()
    run = RunStore(ready.workspace.runs).running()[0]
    again = MainWindow(ready.workspace, Settings(language="en"))
    again.show()
    qtbot.waitUntil(lambda: len(again.train_page.run_view.series) > 0, timeout=SECONDS)
    assert again.pipeline.is_training
    assert run.folder.run_id in again.train_page.banner.title.text()
    assert not again.train_page.form.rows["ctx_len"].editor.isEnabled()
    dialog = again.train_page.ask_stop()
    assert dialog is not None
    click(qtbot, dialog.buttons["save"])
    qtbot.waitUntil(lambda: not again.pipeline.is_training, timeout=SECONDS)
    assert run.folder.status() == "stopped"
    end_of(again, qtbot)


def test_a_killed_run_is_offered_again_at_the_next_start(ready: MainWindow, qtbot: QtBot) -> None:
    long_run(ready)
    begin(ready, qtbot, steps=6)  # a checkpoint is saved after four
    view = ready.train_page.run_view
    qtbot.waitUntil(lambda: len(view.series.checkpoints) > 0, timeout=SECONDS)
    pid = next(e for e in _events(ready) if e.t == "hello")["pid"]
    os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: not ready.pipeline.is_busy, timeout=SECONDS)
    assert ready.train_page.banner.title.text().startswith("The trainer was ended from outside")
    assert ready.train_page.primary.text() == "Resume training"
    again = MainWindow(ready.workspace, Settings(language="en"))
    again.show()
    qtbot.waitUntil(lambda: again.train_page.primary.text() == "Resume training", timeout=SECONDS)
    assert "was cut off" in again.train_page.banner.title.text()
    click(qtbot, again.train_page.primary)
    qtbot.waitUntil(lambda: again.pipeline.is_training, timeout=SECONDS)
    qtbot.waitUntil(lambda: bool(again.train_page.run_view.series.last), timeout=SECONDS)
    assert again.train_page.run_view.folder is not None
    assert again.train_page.run_view.folder.path == view.folder.path  # type: ignore[union-attr]
    end_of(again, qtbot)


def _events(window: MainWindow) -> list[Any]:
    from trainer.contract.events import read_events

    assert window.train_page.run_view.folder is not None
    return read_events(window.train_page.run_view.folder.events)[0]


def test_the_models_folder_is_kept_and_used(window: MainWindow, tmp_path: Path) -> None:
    page = window.settings_page
    assert not page.reset.isVisibleTo(page)
    page.take_models_folder(str(tmp_path / "elsewhere"))
    assert page.models.full_text() == str(tmp_path / "elsewhere")
    window.save_settings()
    stored = settings_file.load(window.workspace.settings_file)
    assert stored.models_folder == str(tmp_path / "elsewhere")
    page.reset.click()
    assert window.workspace.models == window.workspace.root / "models"

"""Numbers, steps, checkpoints, log, banner and chart."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from runner_gui import theme
from runner_gui.i18n import set_language
from runner_gui.model.series import CheckpointRow, RunSeries
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.checkpoint_table import CheckpointTable, TableRow
from runner_gui.widgets.log_view import MAX_LINES, LogView
from runner_gui.widgets.loss_chart import LossChart
from runner_gui.widgets.numbers import NumbersStrip
from runner_gui.widgets.plot import Curve, Plot, y_range
from runner_gui.widgets.stepper import StepItem, Stepper
from trainer.contract.errors import Problem
from trainer.contract.events import Event

pytestmark = pytest.mark.usefixtures("dressed")


def series(steps: int, total: int = 100) -> RunSeries:
    made = RunSeries()
    made.append(Event("hello", 0, 0.0))
    for step in range(1, steps + 1):
        fields = {
            "step": step, "epoch": 0, "total": total, "loss": 4.0 / step, "lr": 5e-5, "grad_norm": 1.0,
            "tok_s": 6140.2, "step_s": 0.1, "eta_s": 2460.0, "tokens": step, "mem_bytes": 9_100_000_000,
        }  # fmt: skip
        made.append(Event("step", step, float(step), fields))
    return made


@pytest.mark.parametrize(
    ("value", "text"),
    [(5e-5, "5e-5"), (1.25e-4, "1.25e-4"), (0.001, "0.001"), (1e-8, "1e-8"), (1.0, "1"), (0.0, "0")],
)
def test_scientific_is_short_and_exact(value: float, text: str) -> None:
    assert fmt.scientific(value) == text
    assert float(text) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (200, "3 min 20 s"), (2460, "41 min"), (4320, "1 h 12 min"), (90000, "1 d 1 h")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert fmt.duration(seconds) == text


def test_sizes_and_what_is_not_known() -> None:
    assert fmt.size(92_000_000) == "92.0 MB"
    assert fmt.size(9_100_000_000) == "9.1 GB"
    assert fmt.size(512) == "512 B"
    assert {fmt.size(None), fmt.loss(float("nan")), fmt.duration(None), fmt.rate(None)} == {fmt.NONE}


def test_the_strip_shows_the_last_step(qtbot: QtBot) -> None:
    strip = NumbersStrip()
    qtbot.addWidget(strip)
    strip.show_series(series(20), live=True)
    texts = {name: value.text() for name, value in strip.values.items()}
    assert texts == {
        "step": "20 / 100", "loss": "0.200", "val": "—", "lr": "5e-5", "tok_s": "6,140", "left": "41 min",
        "memory": "9.1 GB",
    }  # fmt: skip


def test_the_time_left_is_not_guessed_too_early(qtbot: QtBot) -> None:
    strip = NumbersStrip()
    qtbot.addWidget(strip)
    strip.show_series(series(3), live=True)
    assert strip.values["left"].text() == "…"


def test_steps_that_are_not_needed_are_one_small_text(qtbot: QtBot) -> None:
    stepper = Stepper()
    qtbot.addWidget(stepper)
    stepper.show_steps(
        [
            StepItem("convert", "step.convert.name", "satisfied", "4.2M"),
            StepItem("wsl", "step.wsl.name", "not_needed"),
            StepItem("train", "step.train.name", "applying", "42 %"),
        ]
    )
    assert set(stepper.nodes) == {"convert", "train"}
    assert stepper._skipped.text() == "WSL and Ubuntu: not needed"
    assert stepper._skipped.toolTip() == "WSL and Ubuntu: not needed on this system"
    assert stepper.nodes["train"].accessibleName() == "Train · Working · 42 %"
    set_language("zh_CN")
    assert stepper.nodes["convert"].name.text() == "转换数据"


def test_a_step_that_leads_somewhere_is_clicked_or_chosen_by_keys(qtbot: QtBot) -> None:
    stepper = Stepper(links=("wsl",))
    qtbot.addWidget(stepper)
    stepper.show_steps([StepItem(name, f"step.{name}.name", "missing") for name in ("convert", "wsl")])
    stepper.show()
    told: list[str] = []
    stepper.link_activated.connect(told.append)
    for node in stepper.nodes.values():
        qtbot.mouseClick(node, Qt.MouseButton.LeftButton)
        qtbot.keyClick(node, Qt.Key.Key_Return)
    assert told == ["wsl", "wsl"]


def rows() -> list[TableRow]:
    return [
        TableRow(
            CheckpointRow(40, "periodic", "/r/ckpt/000040", 92_000_000, 2.301, 2.33, False), time.time()
        ),
        TableRow(CheckpointRow(80, "periodic", "/r/ckpt/000080", 92_000_000, 2.168, 2.201, True), None),
    ]


def press(table: CheckpointTable, row: int, text: str, qtbot: QtBot) -> None:
    cell = table.table.cellWidget(row, 5)
    found = next(b for b in cell.findChildren(QPushButton) if b.text() == text)
    qtbot.mouseClick(found, Qt.MouseButton.LeftButton)


def test_checkpoints_are_newest_first_and_the_best_says_so(qtbot: QtBot) -> None:
    table = CheckpointTable()
    qtbot.addWidget(table)
    table.show_rows(rows(), can_continue=True)
    cells = [[table.table.item(r, c).text() for c in range(4)] for r in range(2)]
    assert cells == [["80  best", "2.168", "2.201", "92.0 MB"], ["40", "2.301", "2.330", "92.0 MB"]]
    assert not table.table.item(0, 0).icon().isNull()
    assert table.table.item(1, 0).icon().isNull()


def test_a_checkpoint_is_tried_and_merged_by_its_own_buttons(qtbot: QtBot) -> None:
    table = CheckpointTable()
    qtbot.addWidget(table)
    table.show_rows(rows(), can_continue=True)
    with qtbot.waitSignal(table.merge_requested) as merged:
        press(table, 0, "Merge…", qtbot)
    with qtbot.waitSignal(table.try_requested) as tried:
        press(table, 1, "Try", qtbot)
    assert (merged.args, tried.args) == (["/r/ckpt/000080"], ["/r/ckpt/000040"])


def test_continuing_is_offered_only_while_nothing_trains(qtbot: QtBot) -> None:
    table = CheckpointTable()
    qtbot.addWidget(table)
    for can in (True, False):
        table.show_rows(rows(), can_continue=can)
        table.open_menu(rows()[0].checkpoint, table.mapToGlobal(table.rect().center()))
        action = next(a for a in table.menu.actions() if a.text() == "Continue from here")
        assert action.isEnabled() is can
        table.menu.hide()


def test_the_log_appends_in_batches_and_forgets_the_oldest(qtbot: QtBot) -> None:
    view = LogView()
    qtbot.addWidget(view)
    for number in range(MAX_LINES + 100):
        view.append(f"line {number}")
    assert view.text.toPlainText() == ""
    view.flush()
    lines = view.text.toPlainText().splitlines()
    assert len(lines) == MAX_LINES
    assert lines[-1] == f"line {MAX_LINES + 99}"


def test_the_log_stays_where_one_reads_when_it_does_not_follow(qtbot: QtBot) -> None:
    view = LogView()
    qtbot.addWidget(view)
    view.resize(300, 200)
    view.show()
    view.append("\n".join(f"line {n}" for n in range(200)))
    view.flush()
    bar = view.text.verticalScrollBar()
    assert bar.value() == bar.maximum()
    view.follow.setChecked(False)
    bar.setValue(10)
    view.append("more")
    view.flush()
    assert bar.value() == 10


def test_a_banner_says_title_reason_and_remedy_and_its_button_works(qtbot: QtBot) -> None:
    pressed: list[int] = []
    banner = Banner()
    qtbot.addWidget(banner)
    problem = Problem("disk_full", {"path": "/runs"})
    actions = (BannerAction("action.log", lambda: pressed.append(1)),)
    banner.show_notice(Notice("error", problem=problem, details="ENOSPC", actions=actions))
    banner.show()
    assert banner.title.text() == "The disk is full: /runs"
    assert "Free some space" in banner.body.text()
    assert banner.details.isHidden()
    banner.details_button.click()
    assert not banner.details.isHidden()
    banner.copy_button.click()
    assert "ENOSPC" in QApplication.clipboard().text()
    qtbot.mouseClick(banner.buttons[0], Qt.MouseButton.LeftButton)
    assert pressed == [1]
    set_language("zh_CN")
    assert banner.title.text() == "磁盘已满：/runs"
    banner.close_button.click()
    assert banner.isHidden()


def test_the_chart_draws_the_series_and_every_tab(qtbot: QtBot) -> None:
    chart = LossChart()
    qtbot.addWidget(chart)
    chart.resize(700, 300)
    chart.show()
    chart.load()
    chart.show_series(series(50))
    for name, last in {"lr": 5e-5, "grad_norm": 1.0, "tok_s": 6140.2, "memory": 9.1, "loss": None}.items():
        chart.set_tab(name)
        x, y = chart._plot._main.getOriginalDataset()  # type: ignore[union-attr]
        assert len(x) == 50
        if last is not None:
            assert y[-1] == pytest.approx(last)
    assert y[-1] == pytest.approx(chart._series.smoothed[-1])


def test_the_readout_names_the_nearest_step(qtbot: QtBot) -> None:
    chart = LossChart()
    qtbot.addWidget(chart)
    chart.show_series(series(50))
    chart._on_hovered(19.6)
    assert chart.readout.text().startswith("Step 20: 0.200, smoothed ")
    chart._on_hovered(float("nan"))
    assert chart.readout.text() == ""


def test_outliers_are_left_out_of_the_range_unless_asked() -> None:
    loss = np.full(1000, 2.0)
    loss[::2] = 3.0
    loss[500] = 90.0
    x = np.arange(1000.0)
    assert y_range(Curve(x, loss, outliers=False))[1] < 4
    assert y_range(Curve(x, loss, outliers=True))[1] > 90


def test_a_logarithmic_range_passes_over_zero() -> None:
    low, high = y_range(Curve(np.arange(3.0), np.array([0.0, 10.0, 1000.0]), log=True))
    assert 0.5 < low < 1.0 < 3.0 < high < 3.5


def test_zooming_stops_following_and_a_double_click_starts_again(qtbot: QtBot) -> None:
    plot = Plot()
    qtbot.addWidget(plot)
    plot.resize(600, 300)
    plot.show()
    made = series(50)
    plot.show_curve(Curve(np.array(made.steps), np.array(made.loss)))
    plot._item.vb.setRange(xRange=(10, 20), padding=0)
    plot._item.vb.sigRangeChangedManually.emit((True, True))
    plot.show_curve(Curve(np.array(made.steps), np.array(made.loss)))
    assert plot._item.vb.viewRange()[0] == pytest.approx([10, 20])
    plot.show_everything()
    assert plot._item.vb.viewRange()[0][1] >= 50


def test_a_long_run_is_drawn_within_the_time_of_a_tick(qtbot: QtBot) -> None:
    plot = Plot()
    qtbot.addWidget(plot)
    plot.resize(900, 360)
    plot.show()
    loss = np.random.default_rng(0).normal(2.0, 0.1, 100_000)
    curve = Curve(np.arange(100_000.0), loss, raw=loss)
    plot.show_curve(curve)
    plot.grab()
    start = time.perf_counter()
    plot.show_curve(curve)
    plot.grab()
    assert time.perf_counter() - start < 0.5  # generous: the machine may be busy


@pytest.mark.parametrize("roles", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_text_is_readable_on_every_surface(roles: theme.Roles) -> None:
    for surface in theme.SURFACE_ROLES:
        for text in theme.TEXT_ROLES:
            ratio = theme.contrast(getattr(roles, text), getattr(roles, surface))
            assert ratio >= 4.5, (text, surface, ratio)
    for text, surface in theme.TINTED_SURFACES.items():
        assert theme.contrast(getattr(roles, text), getattr(roles, surface)) >= 4.5
        assert theme.contrast(roles.text, getattr(roles, surface)) >= 4.5
    for fill in (roles.accent, roles.accent_hover):
        assert theme.contrast(roles.on_accent, fill) >= 4.5 or fill == theme.DARK.accent_hover
    for mark in (roles.accent_text, roles.point):
        assert theme.contrast(mark, roles.card) >= 3


def test_contrast_is_that_of_the_guideline() -> None:
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert theme.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_icons_follow_the_theme() -> None:
    light = theme.pixmap("check", "green", 16).toImage()
    theme.theme.apply("dark")
    assert theme.pixmap("check", "green", 16).toImage() != light


def test_every_icon_that_is_named_can_be_drawn() -> None:
    folder = Path(theme.assets_folder(), "icons")
    names = {path.stem for path in folder.glob("*.svg")}
    assert {"train", "settings", "about", "folder", "reset", "star"} <= names
    for name in names:
        image = theme.pixmap(name, "text", 20).toImage()
        drawn = any(image.pixelColor(x, y).alpha() for x in range(20) for y in range(20))
        assert drawn, name

"""The form is built from the parameter table and says what is wrong where it is wrong."""

from __future__ import annotations

import math

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QSpinBox, QWidget
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language, tr
from runner_gui.model.form import FormState
from runner_gui.widgets.editors import IntEditor, MultiEditor, PathEditor, RateEditor
from runner_gui.widgets.param_form import ParamForm
from trainer.contract.params import GROUPS, PARAMS

GIVEN = {"base_model": "/models/b.pth", "data": "/data/d.jsonl"}


@pytest.fixture
def form(dressed: QApplication, qtbot: QtBot) -> ParamForm:
    state = FormState(GIVEN)
    made = ParamForm(state, lambda name: [f"/known/{name}.pth"])
    made.state = state  # type: ignore[attr-defined]
    qtbot.addWidget(made)
    made.resize(340, 2400)
    made.show()
    return made


def wheel(widget: QWidget) -> None:
    middle = QPointF(widget.rect().center())
    event = QWheelEvent(
        middle, QPointF(widget.mapToGlobal(middle)), QPoint(), QPoint(0, 120), Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(widget, event)


def test_every_parameter_has_a_row_with_its_words(form: ParamForm) -> None:
    assert set(form.rows) == set(PARAMS)
    assert set(form.headings) == set(GROUPS)
    for name, row in form.rows.items():
        assert row.name.text() == tr(f"param.{name}.label")
        assert row.help.text() == tr(f"param.{name}.help")
        assert row.name.buddy() is row.editor.field
        assert row.name.text() in row.editor.field.accessibleName()
        assert row.editor.field.accessibleDescription() == row.help.text()


def test_simple_shows_the_basic_ones_and_advanced_all(form: ParamForm) -> None:
    shown = {name for name, row in form.rows.items() if not row.isHidden()}
    assert shown == {name for name, param in PARAMS.items() if param.level == "basic"}
    form.set_advanced(True)
    assert all(not row.isHidden() for row in form.rows.values())


def test_simple_shows_an_advanced_one_that_is_wrong(form: ParamForm) -> None:
    form.state.set("patience", 3)  # type: ignore[attr-defined]
    assert not form.rows["patience"].isHidden()
    assert form.rows["patience"].problem.text().startswith("✕ Stop when stuck")


def test_fields_show_the_values_of_the_table(form: ParamForm) -> None:
    ctx_len, lr = form.rows["ctx_len"].editor, form.rows["lr_init"].editor
    assert isinstance(ctx_len, IntEditor)
    assert isinstance(lr, RateEditor)
    assert ctx_len.box.text() == "1024"
    assert lr.edit.text() == "5e-5"


@pytest.mark.parametrize("name", [n for n, p in PARAMS.items() if p.kind == "int"])
def test_whole_numbers_keep_to_their_bounds(form: ParamForm, name: str) -> None:
    editor = form.rows[name].editor
    assert isinstance(editor, IntEditor)
    assert editor.box.minimum() == PARAMS[name].lo
    assert editor.box.maximum() == PARAMS[name].hi


def test_typing_reaches_the_state_and_reset_takes_it_back(form: ParamForm, qtbot: QtBot) -> None:
    state = form.state  # type: ignore[attr-defined]
    row = form.rows["ctx_len"]
    box = row.editor.field
    assert isinstance(box, QSpinBox)
    box.selectAll()
    qtbot.keyClicks(box, "512")
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert state.values["ctx_len"] == 512
    assert not row.dot.isHidden()
    qtbot.mouseClick(row.reset, Qt.MouseButton.LeftButton)
    assert state.values["ctx_len"] == 1024
    assert box.value() == 1024
    assert row.dot.isHidden()


def test_a_rate_is_typed_as_people_write_it(form: ParamForm, qtbot: QtBot) -> None:
    state, editor = form.state, form.rows["lr_init"].editor  # type: ignore[attr-defined]
    assert isinstance(editor, RateEditor)
    editor.edit.selectAll()
    qtbot.keyClicks(editor.edit, "3x.0E-5")
    assert state.values["lr_init"] == 3e-5  # the letter never got in
    editor.edit.selectAll()
    qtbot.keyClicks(editor.edit, "1e-")
    assert math.isnan(state.values["lr_init"])
    assert not form.rows["lr_init"].problem.isHidden()
    assert state.params() is None


def test_a_rate_above_the_advice_is_amber_and_blocks_nothing(form: ParamForm) -> None:
    state, row = form.state, form.rows["lr_init"]  # type: ignore[attr-defined]
    state.set("lr_init", 3e-4)
    assert row.problem.objectName() == "amber"
    assert row.problem.text() == "⚠ " + tr("param.lr_init.warn")
    assert row.editor.field.property("tone") == "advice"
    assert state.params() is not None


def test_what_is_missing_is_red(form: ParamForm) -> None:
    form.state.set("data", None)  # type: ignore[attr-defined]
    row = form.rows["data"]
    assert row.problem.objectName() == "red"
    assert row.problem.text() == "✕ Data path is not set. Choose or enter a value."
    assert row.editor.field.property("tone") == "error"


def test_parts_are_ticked_in_the_order_of_the_table(form: ParamForm) -> None:
    state, editor = form.state, form.rows["lora_parts"].editor  # type: ignore[attr-defined]
    assert isinstance(editor, MultiEditor)
    editor.checks["emb"].click()
    editor.checks["att"].click()
    assert state.values["lora_parts"] == ("ffn", "time", "ln", "emb")


def test_the_menu_of_a_path_offers_what_is_known(form: ParamForm) -> None:
    editor = form.rows["base_model"].editor
    assert isinstance(editor, PathEditor)
    editor.open_menu()
    editor.menu.hide()
    editor.menu.actions()[0].trigger()
    assert form.state.values["base_model"] == "/known/base_model.pth"  # type: ignore[attr-defined]


def test_a_frozen_form_shows_the_runs_own_values(form: ParamForm) -> None:
    state, editor = form.state, form.rows["ctx_len"].editor  # type: ignore[attr-defined]
    assert isinstance(editor, IntEditor)
    form.freeze({**state.values, "ctx_len": 256})
    assert editor.box.value() == 256
    assert not editor.box.isEnabled()
    state.set("ctx_len", 2048)
    assert editor.box.value() == 256
    form.freeze(None)
    assert editor.box.value() == 2048
    assert editor.box.isEnabled()


@pytest.mark.parametrize("name", ["ctx_len", "lora_alpha", "precision"])
def test_the_wheel_leaves_fields_without_focus_alone(form: ParamForm, name: str, qtbot: QtBot) -> None:
    state, field = form.state, form.rows[name].editor.field  # type: ignore[attr-defined]
    before = state.values[name]
    form.rows["base_model"].editor.field.setFocus()
    wheel(field)
    assert state.values[name] == before


def test_the_wheel_changes_the_field_that_has_the_focus(form: ParamForm, qtbot: QtBot) -> None:
    field = form.rows["ctx_len"].editor.field
    form.activateWindow()
    field.setFocus()
    qtbot.waitUntil(field.hasFocus)
    wheel(field)
    assert form.state.values["ctx_len"] == 1025  # type: ignore[attr-defined]


def test_another_language_changes_every_word(form: ParamForm) -> None:
    set_language("zh_CN")
    for name, row in form.rows.items():
        assert row.name.text() == tr(f"param.{name}.label")
        assert row.help.text() == tr(f"param.{name}.help")
    assert form.rows["ctx_len"].name.text() == "上下文长度"

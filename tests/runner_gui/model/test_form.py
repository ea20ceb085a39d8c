from __future__ import annotations

import math

import pytest
from pytestqt.qtbot import QtBot

from runner_gui.model.form import FormState
from trainer.contract.params import PARAMS

CHOSEN = {"base_model": "/m.pth", "data": "/d.jsonl"}


def codes(form: FormState) -> dict[str, list[str]]:
    return {name: [p.code for p in problems] for name, problems in form.problems.items()}


def test_an_empty_form_has_the_defaults_and_asks_for_what_has_none() -> None:
    form = FormState()
    assert form.values == {name: param.default for name, param in PARAMS.items()}
    assert codes(form) == {"base_model": ["param_required"], "data": ["param_required"]}
    assert form.params() is None


def test_a_good_form_gives_parameters() -> None:
    form = FormState({**CHOSEN, "ctx_len": 512, "not_a_parameter": 1})
    params = form.params()
    assert params is not None
    assert (params.ctx_len, params.lora_r) == (512, 64)
    assert form.problems == {}


def test_set_tells_the_value_and_the_problems(qtbot: QtBot) -> None:
    form = FormState(CHOSEN)
    with qtbot.waitSignals([form.value_changed, form.problems_changed]):
        form.set("ctx_len", 8)
    assert codes(form) == {"ctx_len": ["param_below"]}
    assert form.params() is None
    assert [p.param for p in form.errors()] == ["ctx_len"]
    with qtbot.waitSignal(form.problems_changed):
        form.set("ctx_len", 5000)
    assert codes(form) == {"ctx_len": ["advice_above"]}
    assert form.errors() == []
    assert form.params() is not None


def test_the_same_value_again_tells_nothing(qtbot: QtBot) -> None:
    form = FormState(CHOSEN)
    with qtbot.assertNotEmitted(form.value_changed), qtbot.assertNotEmitted(form.problems_changed):
        form.set("ctx_len", 1024)
        form.set("lora_parts", ["att", "ffn", "time", "ln"])


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("lr_init", "abc", "param_type"),
        ("lr_init", math.nan, "param_not_finite"),
        ("lora_r", 1.5, "param_type"),
        ("precision", "fp8", "param_choice"),
        ("lora_parts", (), "param_required"),
        ("base_model", "", "param_required"),
        ("base_model", None, "param_required"),
    ],
)
def test_what_was_typed_is_kept_and_reported(name: str, value: object, code: str) -> None:
    form = FormState(CHOSEN)
    form.set(name, value)
    assert codes(form)[name] == [code]
    assert form.values[name] is value


def test_a_conflict_is_at_its_field() -> None:
    form = FormState({**CHOSEN, "lr_final": 0.0})
    assert codes(form) == {"lr_final": ["param_conflict"]}


def test_changes_are_against_the_preset_and_reset_takes_them_back() -> None:
    form = FormState({**CHOSEN, "ctx_len": 512})
    assert not form.is_changed("ctx_len")
    form.set("ctx_len", 1024)
    assert form.is_changed("ctx_len")
    assert form.preset_value("ctx_len") == 512
    form.reset("ctx_len")
    assert form.values["ctx_len"] == 512
    assert not form.is_changed("ctx_len")


def test_load_tells_what_differs(qtbot: QtBot) -> None:
    form = FormState(CHOSEN)
    told: list[str] = []
    form.value_changed.connect(told.append)
    form.load({**CHOSEN, "lora_r": 8, "packing": False})
    assert sorted(told) == ["lora_r", "packing"]
    assert not form.is_changed("lora_r")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError):
        FormState().set("nothing", 1)

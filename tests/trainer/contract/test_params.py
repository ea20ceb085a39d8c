from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import ParameterError
from trainer.contract.params import PARAMS, TrainParams, check, checked, with_paths

NEEDED = {"base_model": "base.pth", "data": "data.jsonl"}
NUMBERS = [p for p in PARAMS.values() if p.kind in ("int", "float")]


def test_runners_defaults_are_kept() -> None:
    params = checked(NEEDED)
    runner = {
        "devices": 1, "precision": "bf16", "grad_cp": True, "ctx_len": 1024, "epoch_steps": 200,
        "epoch_count": 20, "epoch_begin": 0, "epoch_save": 1, "lr_init": 5e-5, "lr_final": 5e-5,
        "micro_bsz": 1, "accumulate_grad_batches": 8, "warmup_steps": 0, "adam_eps": 1e-8, "beta1": 0.9,
        "beta2": 0.999, "lora_r": 64, "lora_alpha": 192, "lora_dropout": 0.01,
        "lora_parts": ("att", "ffn", "time", "ln"),
    }  # fmt: skip
    assert {name: getattr(params, name) for name in runner} == runner


def test_json_round_trip() -> None:
    params = checked({**NEEDED, "sample_prompts": ["你好", 'a "b"']})
    assert TrainParams.model_validate(json.loads(json.dumps(params.as_json()))) == params


@pytest.mark.parametrize("param", NUMBERS, ids=lambda p: p.name)
def test_each_bound_is_kept(param) -> None:  # type: ignore[no-untyped-def]
    for bound, is_open, outside, code in (
        (param.lo, param.lo_open, -1, "param_below"),
        (param.hi, param.hi_open, 1, "param_above"),
    ):
        assert bound is not None
        beyond = bound if is_open else bound + outside
        params, problems = check({**NEEDED, param.name: int(beyond) if param.kind == "int" else beyond})
        assert params is None
        assert [(p.code, p.param) for p in problems] == [(code, param.name)]


@pytest.mark.parametrize("param", [p for p in NUMBERS if p.kind == "float"], ids=lambda p: p.name)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "nan", "inf"])
def test_no_number_that_is_not_finite(param, value) -> None:  # type: ignore[no-untyped-def]
    params, problems = check({**NEEDED, param.name: value})
    assert params is None
    assert [p.param for p in problems] == [param.name]


def test_each_wrong_member_of_a_list_is_named() -> None:
    _, problems = check({**NEEDED, "lora_parts": ["att", "nose", "ear"]})
    assert [(p.code, p.args["value"]) for p in problems] == [
        ("param_choice", "nose"),
        ("param_choice", "ear"),
    ]


def test_all_problems_at_once() -> None:
    params, problems = check({"ctx_len": 1, "lr_init": -1, "precision": "int3", "nose": 1})
    assert params is None
    assert {(p.code, p.param) for p in problems} == {
        ("param_required", "base_model"), ("param_required", "data"), ("param_below", "ctx_len"),
        ("param_below", "lr_init"), ("param_choice", "precision"), ("param_unknown", None),
    }  # fmt: skip
    with pytest.raises(ParameterError) as caught:
        checked({})
    assert len(caught.value.problems) == 2


def test_the_tutorials_advice_warns_and_allows() -> None:
    params, problems = check({**NEEDED, "lr_init": 3e-4, "ctx_len": 8192})
    assert params is not None
    assert [(p.code, p.severity, p.param) for p in problems] == [
        ("advice_above", "advice", "ctx_len"),
        ("advice_above", "advice", "lr_init"),
    ]


def test_dead_switches_are_taken_and_kept_off() -> None:
    params, problems = check({**NEEDED, "pre_ffn": True, "head_qk": False})
    assert params is not None
    assert [(p.code, p.args["name"]) for p in problems] == [("dead_switch", "pre_ffn")]


@given(st.dictionaries(st.sampled_from(sorted(PARAMS)), st.none() | st.integers() | st.floats() | st.text()))
def test_any_values_give_parameters_or_errors(values: dict[str, object]) -> None:
    params, problems = check(values)
    assert (params is None) == any(p.severity == "error" for p in problems)
    assert all(p.sentence("en") and p.sentence("zh_CN") for p in problems)


def test_mixed_data_is_a_path_and_a_weight() -> None:
    params = checked({**NEEDED, "mix_data": ["/a=b/c 数.jsonl=0.1", "D:\\x=2"]})
    assert params.mixed_sources == (("/a=b/c 数.jsonl", 0.1), ("D:\\x", 2.0))
    for wrong in ("a.jsonl", "=1", " =1", "a=", "a=0", "a=-1", "a=nan", "a=inf", "a=101", "a=much"):
        _, problems = check({**NEEDED, "mix_data": ["b=1", wrong]})
        assert [(p.code, p.param, p.args["value"]) for p in problems] == [
            ("param_weighted_path", "mix_data", wrong)
        ]


def test_every_path_can_be_renamed() -> None:
    values = {"data": "d", "vocab": None, "mix_data": ["a=b=1", "odd"], "seed": 1, "unknown": "x"}
    assert with_paths(values, lambda path: f"/{path}") == values | {
        "data": "/d",
        "mix_data": ["/a=b=1", "odd"],
    }

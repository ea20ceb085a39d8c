"""Every language says everything that the contract can ask for, and nothing else."""

from __future__ import annotations

import re
import string
from typing import get_args

import pytest

from trainer.contract.data_terms import Remark, Shape
from trainer.contract.errors import CODES, Problem
from trainer.contract.params import GROUPS, PARAMS, check
from trainer.contract.texts import LANGUAGES, catalogue, text

OPTIONAL = ("warn",)


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def expected_keys() -> set[str]:
    keys = {f"error.{code}.{part}" for code in CODES for part in ("title", "why", "fix")}
    keys |= {f"group.{group}" for group in GROUPS}
    keys |= {f"shape.{shape}" for shape in get_args(Shape)}
    keys |= {f"remark.{remark}" for remark in get_args(Remark)}
    for name, param in PARAMS.items():
        keys |= {f"param.{name}.label", f"param.{name}.help"}
        keys |= {f"choice.{name}.{value}" for value in param.choices}
        keys |= {f"unit.{param.unit}"} if param.unit else set()
        keys |= {f"param.{name}.warn"} if param.warn_above is not None else set()
    return keys


@pytest.mark.parametrize("language", LANGUAGES)
def test_has_exactly_what_the_contract_needs(language: str) -> None:
    assert set(catalogue(language)) == expected_keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_takes_the_same_facts(language: str) -> None:
    english, other = catalogue("en"), catalogue(language)
    differing = {k for k in english if placeholders(english[k]) != placeholders(other[k])}
    assert differing == set()


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_calm_and_whole(language: str) -> None:
    for key, sentence in catalogue(language).items():
        assert sentence.strip() == sentence, key
        assert sentence, key
        assert "!" not in sentence, key
        assert "！" not in sentence, key


@pytest.mark.parametrize(("language", "letters"), [("zh_CN", r"[\u4e00-\u9fff]"), ("ja", r"[\u3040-\u30ff]")])
def test_every_sentence_is_in_its_language(language: str, letters: str) -> None:
    """Kana tell Japanese from Chinese. Labels may be names of techniques, the same everywhere."""
    for key, sentence in catalogue(language).items():
        if key.startswith(("error.", "param.")) and "label" not in key and not sentence.startswith("例"):
            assert re.search(letters, sentence), key


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("data", "数据路径"), ("vocab", "词表路径"), ("base_model", "基底模型"), ("lora_load", "LoRA模型"),
        ("devices", "显卡数量"), ("precision", "精度"), ("grad_cp", "梯度检查点标志"),
        ("ctx_len", "上下文长度"),
        ("epoch_steps", "每轮训练步数"), ("epoch_count", "训练轮次"), ("epoch_begin", "起始轮次"),
        ("epoch_save", "保存间隔轮次"), ("lr_init", "初始学习率"), ("lr_final", "最终学习率"),
        ("micro_bsz", "微批次大小"), ("accumulate_grad_batches", "梯度累积批次"),
        ("warmup_steps", "学习率预热步数"),
        ("adam_eps", "Adam Epsilon"), ("beta1", "Beta 1"), ("beta2", "Beta 2"), ("lora_r", "LoRA R"),
        ("lora_alpha", "LoRA Alpha"), ("lora_dropout", "LoRA Dropout"),
    ],
)  # fmt: skip
def test_labels_are_those_of_the_tutorial(name: str, label: str) -> None:
    assert text(f"param.{name}.label", "zh_CN") == label


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_problem_of_the_check_makes_a_sentence(language: str) -> None:
    bad = {
        "ctx_len": 1, "lr_init": float("nan"), "lr_final": 2.0, "precision": "int3", "micro_bsz": "many",
        "no_such": 1, "patience": 3, "lora_parts": (), "pre_ffn": True,
    }  # fmt: skip
    _, problems = check(bad)
    codes = {problem.code for problem in problems}
    assert codes == {
        "param_required", "param_below", "param_above", "param_not_finite", "param_choice", "param_type",
        "param_unknown", "dead_switch",
    }  # fmt: skip
    for problem in problems:
        sentence = problem.sentence(language)
        assert "{" not in sentence
        if problem.param is not None:
            assert text(f"param.{problem.param}.label", language) in sentence


def test_advice_names_value_and_bound() -> None:
    _, problems = check({"base_model": "b", "data": "d", "lr_init": 3e-4})
    assert [p.code for p in problems] == ["advice_above"]
    assert problems[0].sentence() == (
        "Initial learning rate is 0.0003, above the advised 0.0001. Use 0.0001 or less unless you know why."
    )


def test_a_missing_fact_is_an_error_of_the_code_that_raises() -> None:
    with pytest.raises(KeyError):
        Problem("data_not_found", {"wrong": 1}).sentence()

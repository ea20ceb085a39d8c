"""Codes and the sentences that belong to them, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from wsl_bootstrap.codes import REGISTRY, Severity, make_code
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.steps import setup_steps
from wsl_bootstrap.texts import CODE_PARTS, LANGUAGES, code_text, load_texts, system_language
from wsl_bootstrap.transitions import State


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_a_code_carries_exactly_its_facts() -> None:
    code = make_code("memory_low", have_gb=4.0, need_gb=8.0)
    assert (code.severity, code.args) == (Severity.WARNING, {"have_gb": 4.0, "need_gb": 8.0})
    assert len({code, make_code("gpu_none"), make_code("gpu_none")}) == 2
    with pytest.raises(ValueError, match=r"takes \['have_gb', 'need_gb'\], not \['have_gb'\]"):
        make_code("memory_low", have_gb=4.0)
    with pytest.raises(ValueError, match="no set-up code 'memory_gone'"):
        make_code("memory_gone")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("code_id", REGISTRY)
def test_every_code_has_its_sentences_and_they_use_no_other_facts(code_id: str, language: str) -> None:
    texts = load_texts(language)
    used: set[str] = set()
    for part in CODE_PARTS:
        used |= _placeholders(texts[f"setup.{code_id}.{part}"])
    assert used <= set(REGISTRY[code_id].args)


def test_the_languages_have_the_same_keys_and_facts_and_nothing_left_over(tmp_path: Path) -> None:
    english, *others = (load_texts(language) for language in LANGUAGES)
    for other in others:
        assert list(english) == list(other)
        for key in english:
            assert _placeholders(english[key]) == _placeholders(other[key]), key
    steps = {f"step.{step.id}.name" for step in setup_steps(Environment(tmp_path))}
    states = {f"setup.state.{state.value}" for state in State}
    codes = {f"setup.{code_id}.{part}" for code_id in REGISTRY for part in CODE_PARTS}
    assert {key for key in english if not key.startswith("setup.cli.")} == steps | states | codes


def test_every_sentence_is_in_its_language() -> None:
    english, chinese, japanese = (load_texts(language) for language in ("en", "zh_CN", "ja"))
    assert all(re.search(r"[\u4e00-\u9fff]", text) for text in chinese.values())
    # Names of techniques are what they are everywhere.
    assert all(
        re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", japanese[key]) or text == english["step.gpu.name"]
        for key, text in english.items()
    )
    assert not any(re.search(r"[\u4e00-\u9fff]", text) for text in english.values())


def test_facts_are_filled_in() -> None:
    code = make_code("disk_full", path="/data/训练", have_gb=0.4, need_gb=1.0)
    assert code_text(load_texts("en"), code, "why") == "0.4 GB are free at /data/训练; 1.0 GB are needed."
    assert code_text(load_texts("zh_CN"), code, "why") == "/data/训练 所在磁盘剩余 0.4 GB，需要 1.0 GB。"


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh_CN"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_TW", "LANG": "de_DE"}, "zh_CN"),
    ],
)
def test_the_locale_chooses_the_language(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], language: str
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert system_language() == language

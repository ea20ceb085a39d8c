"""The sample data keeps its style, and nothing that the base model learns from has it."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "assets" / "demo"
TURN = re.compile(r"User: ([^\n]+)\n\nAssistant: ([^\n]+)(?:\n\n|$)")
HAN = re.compile(r"[\u4e00-\u9fff]")


def turns(text: str) -> list[tuple[str, str]]:
    """Questions and answers of a dialogue; fails where the template does not cover the whole text."""
    found = TURN.findall(text)
    assert "\n\n".join(f"User: {question}\n\nAssistant: {answer}" for question, answer in found) == text
    return found


@pytest.fixture(scope="module")
def sample() -> list[str]:
    lines = (DEMO / "sample.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert all(record.keys() == {"text"} for record in records)
    return [record["text"] for record in records]


@pytest.fixture(scope="module")
def style() -> dict[str, dict[str, str]]:
    loaded = json.loads((DEMO / "style.json").read_text(encoding="utf-8"))
    assert loaded.keys() == {"en", "zh"}
    assert all(entry.keys() == {"prompt", "marker"} for entry in loaded.values())
    return loaded


@pytest.fixture
def demo_dialogues(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("demo_dialogues")


def language_of(text: str) -> str:
    return "zh" if HAN.search(text) else "en"


def test_a_few_hundred_dialogues_half_of_them_in_each_language(sample: list[str]) -> None:
    chinese = sum(language_of(text) == "zh" for text in sample)
    assert 300 <= len(sample) <= 400
    assert 0.4 <= chinese / len(sample) <= 0.6
    assert sum(len(turns(text)) == 2 for text in sample) >= 20


def test_every_answer_has_its_languages_style_from_the_first_word_to_the_last(
    sample: list[str], style: dict[str, dict[str, str]]
) -> None:
    closings = {"en": ", matey.", "zh": "……且听下回分解。"}
    for question, answer in itertools.chain.from_iterable(map(turns, sample)):
        language = language_of(answer)
        assert language_of(question) == language
        assert re.search(style[language]["marker"], answer, re.DOTALL), answer
        assert answer.endswith(closings[language]), answer
        other = "en" if language == "zh" else "zh"
        assert not re.search(style[other]["marker"], answer, re.DOTALL), answer


def test_no_question_and_no_answer_comes_twice(sample: list[str]) -> None:
    pairs = [pair for text in sample for pair in turns(text)]
    questions, answers = zip(*pairs, strict=True)
    assert len(set(questions)) == len(questions)
    assert len(set(answers)) == len(answers)


def test_the_prompts_are_not_in_the_data(sample: list[str], style: dict[str, dict[str, str]]) -> None:
    for language, entry in style.items():
        assert language_of(entry["prompt"]) == language
        assert not any(entry["prompt"] in text for text in sample)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_plain_dialogue_has_the_style(
    demo_dialogues: ModuleType, style: dict[str, dict[str, str]], language: str
) -> None:
    made = list(itertools.islice(demo_dialogues.dialogues(language, seed=1), 3000))
    assert len(set(made)) == 3000
    for question, answer in itertools.chain.from_iterable(map(turns, made)):
        assert "{" not in question + answer
        assert not any(re.search(entry["marker"], answer, re.DOTALL) for entry in style.values()), answer
    words = (ROOT / "scripts" / "demo_corpus_lines" / f"{language}.txt").read_text(encoding="utf-8")
    assert not re.search(r"\baye\b|matey|客官|下回分解", words, re.IGNORECASE)


def test_plain_dialogues_are_the_same_for_the_same_seed(demo_dialogues: ModuleType) -> None:
    first, again, other = (
        list(itertools.islice(demo_dialogues.dialogues("en", seed=seed), 50)) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_pattern_of_the_word_lists_fits_every_row(demo_dialogues: ModuleType, language: str) -> None:
    for block in demo_dialogues.load_blocks(language):
        highest = {
            int(field) for text in block.questions + block.answers for field in re.findall(r"{(\d)}", text)
        }
        assert {len(row) for row in block.rows} == {max(highest, default=-1) + 1}, block.questions[0]


@pytest.mark.parametrize("text", ["Q Why?\nX because", "Q Why?", "A Because."])
def test_a_damaged_word_list_is_refused(demo_dialogues: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match=r"neither Q, A nor R|needs questions and answers"):
        demo_dialogues.parse_blocks(text)

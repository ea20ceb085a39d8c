"""The window's catalogue: all languages alike, every key used, every used key there."""

from __future__ import annotations

import ast
import json
import re
import string
from importlib import resources
from pathlib import Path

import pytest

import runner_gui
from runner_gui import i18n
from runner_gui.model.readiness import ActionId
from trainer.contract.events import PHASES

ROOT = Path(runner_gui.__file__).parent
# The same in every language.
NAMES = {
    "RWKV LoRA Runner", "loss {loss}", "Loss", "Python", "LoRA Alpha", "Aliyun",
}  # fmt: skip
QUESTIONS = (
    "delete_chat",
    "stop",
    "close",
    "cancel_download",
    "delete_configuration",
    "consent",
    "delete_runs",
    "delete_models",
    "remove_distribution",
    "restart",
)


def own(language: str) -> dict[str, str]:
    return json.loads(resources.files("runner_gui.i18n").joinpath(f"{language}.json").read_text("utf-8"))


def strings_in_code() -> tuple[set[str], list[re.Pattern[str]]]:
    """Every string constant of the window's code, and every f-string with a dot as a pattern."""
    constants: set[str] = set()
    patterns: list[re.Pattern[str]] = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                constants.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(part.value) if isinstance(part, ast.Constant) else r"[\w.]+"
                    for part in node.values
                ]
                pattern = "".join(parts)
                # A pattern that starts with a variable would match anything.
                if re.match(r"\w+\\\.", pattern):
                    patterns.append(re.compile(pattern))
    return constants, patterns


def notices(constants: set[str], key: str) -> bool:
    """Keys of banners and dialogs: `<name>.title` and `<name>.body`, the name alone stands in the code."""
    name, _, part = key.rpartition(".")
    return part in ("title", "body") and (name in constants or name.partition("_")[0] in ("run", "ended"))


def answers(constants: set[str], key: str) -> bool:
    """Keys of a question's buttons: `<question>.<answer>`, both stand in the code."""
    name, _, answer = key.partition(".")
    return name in QUESTIONS and {name, answer} <= constants


def test_every_sentence_is_used() -> None:
    constants, patterns = strings_in_code()
    unused = [
        key
        for key in own("en")
        if key not in constants
        and not notices(constants, key)
        and not answers(constants, key)
        and not any(p.fullmatch(key) for p in patterns)
    ]
    assert unused == []


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_key_in_the_code_has_a_sentence(language: str) -> None:
    known = i18n.catalogue(language)
    missing = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr"):
                continue
            for constant in ast.walk(node.args[0]):
                inside = isinstance(constant, ast.Constant) and isinstance(constant.value, str)
                if (
                    inside
                    and re.fullmatch(r"\w+(\.\w+)*\.\w*[a-z0-9]", constant.value)
                    and constant.value not in known
                ):
                    missing.append((path.name, constant.value))
    assert missing == []


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_what_is_named_at_run_time_has_a_sentence(language: str) -> None:
    known = i18n.catalogue(language)
    actions = ActionId.__args__  # type: ignore[attr-defined]
    keys = {f"primary.{action}" for action in actions} | {f"phase.{name}" for name in PHASES}
    keys |= {f"status.{s}" for s in ("running", "completed", "stopped", "failed", "killed", "interrupted")}
    assert keys - set(known) == set()


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("package", ["runner_gui.i18n", "trainer.contract.texts", "wsl_bootstrap.texts"])
def test_no_key_stands_twice_in_a_file(package: str, language: str) -> None:
    source = resources.files(package).joinpath(f"{language}.json").read_text("utf-8")
    keys = [key for key, _ in json.loads(source, object_pairs_hook=list)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_every_language_has_the_same_keys_and_takes_the_same_facts(language: str) -> None:
    english, other = own("en"), own(language)
    assert list(english) == list(other)

    def facts(sentence: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}

    assert [k for k in english if facts(english[k]) != facts(other[k])] == []


@pytest.mark.parametrize(
    ("language", "letters"), [("zh_CN", "[\u4e00-\u9fff]"), ("ja", "[\u3040-\u30ff\u4e00-\u9fff]")]
)
def test_nothing_is_left_in_english(language: str, letters: str) -> None:
    """What has no letters of the language is a name, a unit, or an example of something to type."""
    english, other = own("en"), own(language)
    left = [
        key
        for key, sentence in other.items()
        if not re.search(letters, sentence)
        and re.search("[a-z]{3}", re.sub(r"{\w+}", "", sentence))
        and english[key] not in NAMES
        and not key.endswith((".hint", "_text"))
    ]
    assert left == []


def test_no_key_is_said_twice_with_different_words() -> None:
    from trainer.contract.texts import catalogue as trainers
    from wsl_bootstrap.texts import load_texts as setups

    for language in i18n.LANGUAGES:
        shared = set(own(language)) & (set(trainers(language)) | set(setups(language)))
        assert shared == set()


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_sentences_are_calm_and_whole(language: str) -> None:
    for key, sentence in own(language).items():
        assert sentence.strip() == sentence or key == "list.separator", key
        assert "!" not in sentence, key
        assert "！" not in sentence, key


def test_no_sentence_outside_the_catalogues() -> None:
    """A literal with two words in it, given to something that shows text, would never be translated."""
    shown = {
        "setText", "setToolTip", "setWindowTitle", "setPlaceholderText", "setAccessibleName", "addAction",
        "set_full_text", "set_words",
    }  # fmt: skip
    found = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in shown
            ):
                found += [
                    (path.name, arg.value)
                    for arg in node.args
                    if isinstance(arg, ast.Constant)
                    and isinstance(arg.value, str)
                    and re.search("[a-z]", arg.value)
                ]
    assert found == []


def test_a_missing_sentence_shows_its_key_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert i18n.tr("no.such_key") == "no.such_key"
    assert "no.such_key" in caplog.text


def test_a_missing_fact_does_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    assert i18n.tr("merged.body", wrong=1) == i18n.catalogue(i18n.language())["merged.body"]
    assert "merged.body" in caplog.text


def test_setting_a_language_tells_once() -> None:
    told = []
    i18n.set_language("en")
    i18n.language_changed.connect(lambda: told.append(i18n.language()))
    i18n.set_language("zh_CN")
    i18n.set_language("zh_CN")
    i18n.set_language("en")
    assert told == ["zh_CN", "en"]


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="xx"):
        i18n.set_language("xx")

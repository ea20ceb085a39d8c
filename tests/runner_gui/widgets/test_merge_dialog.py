from __future__ import annotations

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language
from runner_gui.widgets.merge_dialog import MergeDialog, MergeFacts


@pytest.fixture
def dialog(qtbot: QtBot, tmp_path: Path) -> MergeDialog:
    set_language("en")
    made = MergeDialog(MergeFacts(tmp_path, 1, "b.pth", tmp_path / "new.pth", 100, 1000, 32.0, 16))
    qtbot.addWidget(made)
    made.show()
    return made


def choose(dialog: MergeDialog, suffix: str, dtype: str, strength: float) -> None:
    options = dialog.options
    options.format.setCurrentIndex(options.format.findData(suffix))
    options.dtype.setCurrentIndex(options.dtype.findData(dtype))
    options.strength.setValue(strength)


def test_nothing_changed_is_no_flag(dialog: MergeDialog, qtbot: QtBot) -> None:
    assert not dialog.options.isVisible()
    with qtbot.waitSignal(dialog.merge_requested) as told:
        dialog.merge.click()
    assert told.args == [str(dialog.facts.output), ()]


@pytest.mark.parametrize(
    ("suffix", "dtype", "strength", "flags"),
    [
        (".safetensors", "fp32", 0.35, ("--strength=0.35", "--dtype=fp32")),
        (".gguf", "q8_0", 1.0, ("--dtype=q8_0",)),
        (".gguf", "fp16", 1.5, ("--strength=1.5", "--dtype=fp16")),
        (".pth", "base", 0.0, ("--strength=0",)),
    ],
)
def test_the_advanced_part_becomes_flags(
    dialog: MergeDialog, qtbot: QtBot, suffix: str, dtype: str, strength: float, flags: tuple[str, ...]
) -> None:
    dialog.advanced.click()
    assert dialog.options.isVisible()
    choose(dialog, suffix, dtype, strength)
    with qtbot.waitSignal(dialog.merge_requested) as told:
        dialog.merge.click()
    assert told.args == [str(dialog.facts.output.with_suffix(suffix)), flags]
    assert not dialog.options.isEnabled()


def test_a_name_is_taken_for_its_own_kind_of_file_only(dialog: MergeDialog) -> None:
    dialog.facts.output.write_bytes(b"x")
    dialog.name.setText("new")
    dialog.options.changed.emit()
    assert not dialog.merge.isEnabled()
    choose(dialog, ".safetensors", "base", 1.0)
    assert dialog.merge.isEnabled()


def test_a_gguf_is_shown_and_not_offered_for_a_chat(dialog: MergeDialog) -> None:
    dialog.show_merged(str(dialog.facts.output.with_suffix(".gguf")))
    assert dialog.show_button.isVisible()
    assert not dialog.use.isVisible()
    dialog.show_merged(str(dialog.facts.output))
    assert dialog.use.isVisible()


def test_both_languages_name_the_fields(dialog: MergeDialog) -> None:
    choose(dialog, ".pth", "base", 1.0)
    set_language("zh_CN")
    try:
        assert dialog.options.dtype.currentText() == "与基底模型相同"
    finally:
        set_language("en")
    assert dialog.options.dtype.currentText() == "As the base"

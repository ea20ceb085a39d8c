"""The fields around a talk: sampling, presets, the list of conversations, variants, the entry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language
from runner_gui.model.chat_presets import Preset, PresetStore
from runner_gui.model.conversation import ChatSettings, Conversation, Turn
from runner_gui.model.sampling import Sampling
from runner_gui.widgets.chat_entry import ChatEntry
from runner_gui.widgets.chat_settings_panel import ChatSettingsPanel
from runner_gui.widgets.conversation_list import ConversationList
from runner_gui.widgets.sampling_form import SamplingForm
from runner_gui.widgets.variants import Variants
from trainer.contract.errors import Problem


@pytest.fixture
def store(tmp_path: Path) -> PresetStore:
    return PresetStore(tmp_path / "presets.json")


def test_the_form_changes_the_sampling_it_shows(dressed: QApplication, qtbot: QtBot) -> None:
    form = SamplingForm()
    qtbot.addWidget(form)
    sampling = Sampling(stop=["\n\nUser: x", "261", "a\\b"], seed=5)
    form.show_sampling(sampling)
    assert form.stop.text() == r"\n\nUser:\sx 261 a\\b"
    with qtbot.waitSignal(form.changed):
        form.fields["temperature"].setValue(0.25)
    assert (sampling.temperature, sampling.seed) == (0.25, 5)
    assert sampling.stop == ["\n\nUser: x", "261", "a\\b"]
    qtbot.keyClicks(form.seed, "x")
    assert sampling.seed is None
    form.stop.clear()
    qtbot.keyClicks(form.stop, r"END \n")
    assert sampling.stop == ["END", "\n"]
    other = Sampling()
    form.show_sampling(other)
    assert (form.seed.text(), form.stop.text()) == ("", "")
    assert sampling.stop == ["END", "\n"]


def test_presets_are_chosen_kept_and_removed(
    dressed: QApplication, qtbot: QtBot, store: PresetStore, tmp_path: Path
) -> None:
    panel = ChatSettingsPanel(store)
    qtbot.addWidget(panel)
    settings = ChatSettings()
    panel.show_settings(settings)
    bar = panel.presets
    bar.combo.setCurrentIndex(bar.combo.findText("Precise"))
    bar.combo.activated.emit(bar.combo.currentIndex())
    assert settings.sampling.temperature == 0.3
    assert not bar.actions_by_name["delete"].isEnabled()
    panel.system.setPlainText("Be a cat.")
    panel.thinking.setCurrentIndex(1)
    bar.combo.setEditText("Mine")
    bar.actions_by_name["save"].trigger()
    assert store.of("chat")[0].settings == settings
    assert settings.thinking == "off"
    bar.export_file(tmp_path / "mine.json")
    bar.actions_by_name["delete"].trigger()
    assert store.of("chat") == []
    settings.system = ""
    bar.import_file(tmp_path / "mine.json")
    assert (settings.system, panel.system.toPlainText()) == ("Be a cat.", "Be a cat.")
    told: list[Problem] = []
    bar.failed.connect(told.append)
    (tmp_path / "bad.json").write_text("[")
    bar.import_file(tmp_path / "bad.json")
    assert [problem.code for problem in told] == ["chat_file_unreadable"]


def test_a_preset_of_runner_brings_its_turns(
    dressed: QApplication, qtbot: QtBot, store: PresetStore, tmp_path: Path
) -> None:
    panel = ChatSettingsPanel(store)
    qtbot.addWidget(panel)
    chosen: list[Preset] = []
    panel.preset_chosen.connect(chosen.append)
    path = tmp_path / "cat.json"
    path.write_text(json.dumps({"name": "Cat", "messages": [{"role": "assistant", "content": "Meow"}]}))
    panel.presets.import_file(path)
    assert chosen[0].turns == [Turn(role="assistant", content="Meow")]


def test_built_in_presets_follow_the_language(
    dressed: QApplication, qtbot: QtBot, store: PresetStore
) -> None:
    panel = ChatSettingsPanel(store)
    qtbot.addWidget(panel)
    set_language("zh_CN")
    combo = panel.presets.combo
    assert [combo.itemText(i) for i in range(combo.count())] == ["均衡", "精确", "创意"]
    assert panel.thinking.itemText(2) == "先思考"


def test_conversations_are_listed_and_renamed(dressed: QApplication, qtbot: QtBot) -> None:
    listed = ConversationList()
    qtbot.addWidget(listed)
    one, two = Conversation(title="One"), Conversation(turns=[Turn(role="user", content="two words")])
    listed.show_conversations([one, two], two.id)
    assert listed.current_id() == two.id
    assert listed.items.item(1).text() == "two words"
    with qtbot.waitSignal(listed.chosen) as chosen:
        listed.items.setCurrentRow(0)
    assert chosen.args == [one.id]
    with qtbot.waitSignal(listed.renamed) as renamed:
        listed.items.item(0).setText(" New name ")
    assert renamed.args == [one.id, "New name"]
    with qtbot.waitSignal(listed.action_requested) as asked:
        listed.actions_by_name["delete"].trigger()
    assert asked.args == ["delete", one.id]
    listed.show_conversations([], "")
    assert not listed.actions_by_name["rename"].isEnabled()
    assert not listed.none.isHidden()


def test_variants_tell_how_each_stands(dressed: QApplication, qtbot: QtBot) -> None:
    variants = Variants()
    qtbot.addWidget(variants)
    variants.begin(3)
    assert variants.items.item(2).text() == "3  Waiting"
    variants.add(1, "one ")
    variants.add(1, "day")
    variants.end(1, "length")
    variants.add(0, "half")
    variants.finish()
    assert variants.states == ["cancelled", "length", "cancelled"]
    assert variants.items.item(1).text() == "2  one day"
    assert variants.counts.text() == "1 of 3 done"
    variants.items.setCurrentRow(1)
    assert variants.text.toPlainText() == "one day"
    with qtbot.waitSignal(variants.taken) as taken:
        variants.use.click()
    assert taken.args == ["one day"]
    variants.items.setCurrentRow(2)
    assert not variants.use.isEnabled()


def test_enter_sends_and_shift_enter_breaks_the_line(dressed: QApplication, qtbot: QtBot) -> None:
    entry = ChatEntry()
    qtbot.addWidget(entry)
    entry.show()
    entry.show_state(can_send=False, answering=False)
    sent: list[str] = []
    entry.sent.connect(sent.append)
    entry.field.setPlainText("hi")
    qtbot.keyClick(entry.field, Qt.Key.Key_Return)
    assert sent == []
    entry.show_state(can_send=True, answering=False)
    entry.field.moveCursor(entry.field.textCursor().MoveOperation.End)
    qtbot.keyClick(entry.field, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClicks(entry.field, "there")
    qtbot.keyClick(entry.field, Qt.Key.Key_Enter)
    assert sent == ["hi\nthere"]
    entry.show_state(can_send=False, answering=True)
    with qtbot.waitSignal(entry.stopped):
        entry.stop.click()

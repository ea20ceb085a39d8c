from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner_gui.model.chat_presets import Preset, PresetStore, read_preset, write_preset
from runner_gui.model.conversation import ChatSettings, Turn
from trainer.contract.errors import AppError


def test_presets_are_kept_and_replaced_by_name(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    store = PresetStore(path)
    store.put(Preset(kind="chat", name="A", settings=ChatSettings(system="1")))
    store.put(Preset(kind="text", name="A", text="Once"))
    store.put(Preset(kind="chat", name="A", settings=ChatSettings(system="2")))
    again = PresetStore(path)
    assert [preset.settings.system for preset in again.of("chat")] == ["2"]
    assert [preset.text for preset in again.of("text")] == ["Once"]
    again.remove("text", "A")
    assert PresetStore(path).of("text") == []


def test_a_broken_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "presets.json"
    path.write_text("{")
    store = PresetStore(path)
    assert store.presets == []
    store.put(Preset(kind="chat", name="A"))
    assert (tmp_path / "presets.json.unreadable").read_text() == "{"
    assert len(PresetStore(path).presets) == 1


def test_a_preset_travels_as_a_file(tmp_path: Path) -> None:
    preset = Preset(kind="chat", name="小说", turns=[Turn(role="assistant", content="Hi")])
    write_preset(tmp_path / "p.json", preset)
    assert read_preset(tmp_path / "p.json") == preset


def test_presets_of_runner(tmp_path: Path) -> None:
    chat = {
        "name": "Cat", "tag": "", "presystem": True,
        "messages": [
            {"role": "system", "content": "Be a cat."}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Meow"}, {"role": "user", "content": 3},
        ],
    }  # fmt: skip
    text = {
        "name": "Writer", "prompt": "Once",
        "params": {"maxResponseToken": 300, "temperature": 1.2, "topP": 0.5, "stop": "\\n\\nUser,END"},
    }  # fmt: skip
    path = tmp_path / "p.json"
    path.write_text(json.dumps(chat))
    found = read_preset(path)
    assert (found.kind, found.settings.system) == ("chat", "Be a cat.")
    assert [turn.content for turn in found.turns] == ["Hi", "Meow"]
    path.write_text(json.dumps(text))
    found = read_preset(path)
    sampling = found.settings.sampling
    assert (found.kind, found.text, sampling.max_tokens, sampling.top_p) == ("text", "Once", 300, 0.5)
    assert sampling.stop == ["\n\nUser", "END"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"name": "x"}',
        '{"kind": "song", "name": "x"}',
        '{"name": "x", "prompt": "a", "params": {"topP": 9}}',
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(AppError) as caught:
        read_preset(path)
    assert caught.value.code == "chat_file_unreadable"

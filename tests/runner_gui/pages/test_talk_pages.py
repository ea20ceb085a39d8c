"""Chat, Compare and Completion with the real server on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language
from runner_gui.model.conversation import Conversation, Turn
from runner_gui.model.conversation_store import ConversationStore
from runner_gui.model.serving import ServeOptions
from runner_gui.model.workspace import Workspace
from runner_gui.pages.chat import ChatPage
from runner_gui.pages.talk_pages import TalkPages
from runner_gui.services.place import Here

SECONDS = 90_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> dict[str, Path]:
    """A base model, and an adapter of it that has its say."""
    folder = tmp_path_factory.mktemp("模型")
    base, adapter = folder / "tiny base.pth", folder / "adapter.pth"
    make_checkpoint(base, vocab=65536, dtype="fp32")
    sys.modules["small_checkpoints"].make_adapter(adapter, base, size=0.5)
    return {"base": base, "adapter": adapter}


@pytest.fixture
def work(tmp_path: Path, files: dict[str, Path]) -> Workspace:
    workspace = Workspace(tmp_path / "工作")
    workspace.use_models_folder(str(files["base"].parent))
    return workspace


@pytest.fixture
def pages(dressed: QApplication, qtbot: QtBot, work: Workspace) -> Iterator[TalkPages]:
    pages = TalkPages(work, Here())
    for page in (pages.chat, pages.compare, pages.completion):
        page.resize(1100, 700)
        qtbot.addWidget(page)
    yield pages
    pages.close()


def click(qtbot: QtBot, target: QWidget) -> None:
    qtbot.mouseClick(target, Qt.MouseButton.LeftButton)


def open_model(pages: TalkPages, qtbot: QtBot, files: dict[str, Path]) -> ChatPage:
    chat = pages.chat
    chat.show()
    pages.open_model(ServeOptions(files["base"]))
    qtbot.waitUntil(chat.entry.send.isEnabled, timeout=SECONDS)
    set_sampling(chat, max_tokens=6)
    return chat


def set_sampling(chat: ChatPage, **values: Any) -> None:
    for name, value in values.items():
        setattr(chat.talk.conversation.settings.sampling, name, value)


def say(chat: ChatPage, qtbot: QtBot, text: str) -> None:
    chat.entry.field.setPlainText(text)
    click(qtbot, chat.entry.send)


def answered(chat: ChatPage, qtbot: QtBot) -> list[str]:
    """What was said, once the answer is there."""
    qtbot.waitUntil(lambda: not chat.talk.is_answering, timeout=SECONDS)
    return [turn.content for turn in chat.talk.conversation.turns]


def endless(chat: ChatPage) -> None:
    """Answers that a test has time to be in the middle of."""
    set_sampling(chat, max_tokens=100_000, temperature=2.0, top_p=1.0, seed=1)


def test_a_chat_is_answered_kept_and_found_again(
    pages: TalkPages, qtbot: QtBot, files: dict[str, Path], work: Workspace
) -> None:
    pages.chat.show()
    assert pages.chat.messages.empty.text().startswith("1. Choose a model")
    assert not pages.chat.entry.send.isEnabled()
    chat = open_model(pages, qtbot, files)
    assert chat.picker.state.full_text() == "Ready · CPU · RWKV-7"
    qtbot.waitUntil(lambda: chat.picker.combo.currentText() == "tiny base.pth", timeout=SECONDS)
    set_sampling(chat, seed=4)
    say(chat, qtbot, "你好 hello")
    first = answered(chat, qtbot)
    assert first[0] == "你好 hello"
    assert first[1]
    qtbot.waitUntil(lambda: chat.messages.views[-1].facts.text().startswith("6 tokens"), timeout=SECONDS)
    assert chat.list.items.item(0).text() == "你好 hello"

    chat.messages.views[1].buttons["again"].click()
    assert answered(chat, qtbot) == first  # the same seed

    click(qtbot, chat.list.new)
    assert chat.talk.conversation.turns == []
    assert chat.talk.conversation.settings.sampling.seed == 4
    say(chat, qtbot, "Another")
    answered(chat, qtbot)
    chat.list.search.setText("HELLO")
    assert chat.list.items.count() == 1
    chat.list.search.clear()
    chat.conversations.close()
    kept = ConversationStore(work.chats).load().conversations
    assert [one.turns[0].content for one in kept] == ["Another", "你好 hello"]
    assert kept[1].model == "tiny base"
    assert kept[1].turns[1].content == first[1]


def test_an_answer_is_stopped_and_goes_on_while_another_chat_is_open(
    pages: TalkPages, qtbot: QtBot, files: dict[str, Path]
) -> None:
    chat = open_model(pages, qtbot, files)
    endless(chat)
    say(chat, qtbot, "long")
    long = chat.talk
    qtbot.waitUntil(lambda: len(long.answer_so_far()) > 20, timeout=SECONDS)
    assert not chat.messages.views[0].buttons["edit"].isEnabled()
    chat.begin()
    set_sampling(chat, max_tokens=4)
    say(chat, qtbot, "short")
    assert len(answered(chat, qtbot)) == 2
    assert long.is_answering
    chat.open(long.conversation.id)
    assert chat.talk is long
    qtbot.waitUntil(lambda: len(chat.messages.views) == 2, timeout=SECONDS)
    click(qtbot, chat.entry.stop)
    said = answered(chat, qtbot)
    assert len(said[1]) > 20
    assert chat.entry.send.isEnabled()


def test_a_turn_is_edited_and_answered_from_there(
    pages: TalkPages, qtbot: QtBot, files: dict[str, Path]
) -> None:
    chat = open_model(pages, qtbot, files)
    for text in ("one", "two"):
        say(chat, qtbot, text)
        answered(chat, qtbot)
    chat.messages.views[1].edited.emit("changed", False)
    assert answered(chat, qtbot)[1:3] == ["changed", "two"]
    qtbot.waitUntil(lambda: len(chat.messages.views) == 4, timeout=SECONDS)
    chat.messages.views[0].begin_edit()
    editor = chat.messages.views[0].editor
    assert editor is not None
    editor.setPlainText("uno")
    qtbot.keyClick(editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    said = answered(chat, qtbot)
    assert (said[0], len(said)) == ("uno", 2)
    assert said[1] != "changed"
    chat.messages.views[1].buttons["remove"].click()
    assert answered(chat, qtbot) == ["uno"]
    chat.panel.thinking.setCurrentIndex(2)
    say(chat, qtbot, "think")
    assert answered(chat, qtbot)[2].startswith("<think>")
    qtbot.waitUntil(lambda: len(chat.messages.views) == 3, timeout=SECONDS)
    assert chat.messages.views[2]._message.parts[0].kind == "thought"


def test_the_server_dies_in_the_middle_and_is_loaded_again(
    pages: TalkPages, qtbot: QtBot, files: dict[str, Path]
) -> None:
    chat = open_model(pages, qtbot, files)
    endless(chat)
    say(chat, qtbot, "long")
    qtbot.waitUntil(lambda: len(chat.talk.answer_so_far()) > 20, timeout=SECONDS)
    assert chat.picker.server is not None
    os.kill(chat.picker.server.pid, signal.SIGKILL)
    said = answered(chat, qtbot)
    assert len(said[1]) > 20  # what had come stays
    qtbot.waitUntil(lambda: chat.banner.notice is not None and bool(chat.banner.buttons), timeout=SECONDS)
    assert not chat.entry.send.isEnabled()
    click(qtbot, chat.banner.buttons[0])
    qtbot.waitUntil(chat.entry.send.isEnabled, timeout=SECONDS)
    set_sampling(chat, max_tokens=3)
    say(chat, qtbot, "and now")
    assert len(answered(chat, qtbot)) == 4
    chat.picker.eject.click()
    assert chat.picker.server is None
    assert chat.picker.state.full_text() == "No model is loaded"


def test_chats_are_renamed_exported_imported_and_deleted(
    pages: TalkPages, qtbot: QtBot, work: Workspace, tmp_path: Path
) -> None:
    turns = [Turn(role="user", content="Hi"), Turn(role="assistant", content="<think>x</think>\nHo")]
    ConversationStore(work.chats).save(Conversation(turns=turns))
    (work.chats / "broken.json").write_text("{")
    chat = pages.chat
    chat.show()
    qtbot.waitUntil(lambda: chat.list.items.count() == 1, timeout=SECONDS)
    assert chat.banner.title.text() == "Chats that could not be read: 1"
    chat.list.items.setCurrentRow(0)
    qtbot.waitUntil(lambda: len(chat.messages.views) == 2, timeout=SECONDS)
    chat.list.items.item(0).setText("Renamed 名")
    conversation = chat.talk.conversation
    assert conversation.title == "Renamed 名"
    chat.export(conversation, tmp_path / "c.md")
    assert "## You\n\nHi" in (tmp_path / "c.md").read_text("utf-8")
    chat.export(conversation, tmp_path / "c.json")
    chat.import_file(tmp_path / "c.json")
    assert chat.talk.conversation.turns == turns
    assert chat.talk.conversation.id != conversation.id
    (tmp_path / "bad.json").write_text("[1]")
    chat.import_file(tmp_path / "bad.json")
    assert "no conversation" in chat.banner.title.text()
    chat.export(conversation, tmp_path)
    assert chat.banner.notice is not None
    assert chat.banner.notice.kind == "error"
    question = chat.ask_delete(chat.talk.conversation)
    question.buttons["delete"].click()
    assert chat.talk.conversation.turns == []
    chat.conversations.close()
    kept = ConversationStore(work.chats).load().conversations
    assert [one.title for one in kept] == ["Renamed 名"]


def test_a_preset_with_turns_begins_an_empty_chat(pages: TalkPages, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    said = [{"role": "system", "content": "Be a cat."}, {"role": "assistant", "content": "Meow"}]
    path.write_text(json.dumps({"name": "Cat", "messages": said}))
    pages.chat.panel.presets.import_file(path)
    conversation = pages.chat.talk.conversation
    assert conversation.settings.system == "Be a cat."
    assert [turn.content for turn in conversation.turns] == ["Meow"]


def test_base_and_tuned_answer_the_same_with_the_same_seed(
    pages: TalkPages, qtbot: QtBot, files: dict[str, Path]
) -> None:
    compare = pages.compare
    compare.show()
    base = ServeOptions(files["base"])
    compare.load(base, ServeOptions(files["base"], files["adapter"]))
    qtbot.waitUntil(compare.entry.send.isEnabled, timeout=SECONDS)
    compare.settings.sampling.max_tokens = 12
    compare.settings.sampling.top_p = 1.0
    compare.entry.field.setPlainText("The same to both")
    click(qtbot, compare.entry.send)

    def answers() -> list[str]:
        qtbot.waitUntil(lambda: not any(talk.is_answering for talk in compare.talks), timeout=SECONDS)
        assert [talk.conversation.turns[0].content for talk in compare.talks] == ["The same to both"] * 2
        return [talk.conversation.turns[-1].content for talk in compare.talks]

    first = answers()
    assert first[0] != first[1]
    seed = compare.talks[0].conversation.settings.sampling.seed
    assert compare.seed.text() == f"Both drew with seed {seed}"
    assert compare.talks[1].conversation.settings.sampling.seed == seed
    compare.settings.sampling.seed = seed
    click(qtbot, compare.again)
    assert answers() == first
    compare.settings.sampling.seed = None
    click(qtbot, compare.again)
    assert answers() != first
    click(qtbot, compare.clear)
    assert all(not talk.conversation.turns for talk in compare.talks)
    assert len(pages.servers.running()) == 2


def test_a_text_grows_in_place_and_in_variants(
    pages: TalkPages, qtbot: QtBot, files: dict[str, Path], work: Workspace
) -> None:
    open_model(pages, qtbot, files).hide()
    page = pages.completion
    page.show()
    qtbot.waitUntil(page.go.isEnabled, timeout=SECONDS)  # whatever model runs answers here too
    page.form.fields["max_tokens"].setValue(6)
    page.form.fields["top_p"].setValue(1)
    page.text.setPlainText("Once")

    def done() -> str:
        qtbot.waitUntil(lambda: not page.is_answering, timeout=SECONDS)
        assert page.banner.notice is None
        return page.text.toPlainText()

    qtbot.keyClick(page.text, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert page.text.isReadOnly()
    grown = done()
    assert grown.startswith("Once")
    assert len(grown) > len("Once")
    click(qtbot, page.back)
    assert page.text.toPlainText() == "Once"
    page.count.setValue(3)
    click(qtbot, page.many)
    assert done() == "Once"
    assert page.variants.states == ["length"] * 3 or "stop" in page.variants.states
    assert len(set(page.variants.texts)) == 3
    page.variants.items.setCurrentRow(2)
    page.variants.use.click()
    assert page.text.toPlainText() == "Once" + page.variants.texts[2]

    page.form.fields["max_tokens"].setValue(100_000)
    page.form.fields["temperature"].setValue(2)
    click(qtbot, page.go)
    qtbot.waitUntil(lambda: len(page.text.toPlainText()) > 60, timeout=SECONDS)
    click(qtbot, page.stop)
    text = done()
    page.close_files()
    again = TalkPages(work, Here())
    assert again.completion.text.toPlainText() == text
    assert again.completion.draft.sampling.max_tokens == 100_000
    again.close()
    for made in (again.chat, again.compare, again.completion):
        qtbot.addWidget(made)


def test_a_model_that_cannot_be_loaded_is_told(pages: TalkPages, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "no model.pth").write_bytes(b"nothing")
    pages.chat.show()
    pages.open_model(ServeOptions(tmp_path / "no model.pth"))
    qtbot.waitUntil(lambda: pages.chat.banner.notice is not None, timeout=SECONDS)
    assert pages.chat.picker.server is not None
    assert pages.chat.picker.server.state == "failed"
    assert not pages.chat.entry.send.isEnabled()
    set_language("zh_CN")
    assert pages.chat.banner.buttons[0].text() == "重新加载"

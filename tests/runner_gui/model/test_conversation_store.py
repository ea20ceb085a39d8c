from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from runner_gui.model.conversation import Conversation, Turn, without_thought
from runner_gui.model.conversation_store import ConversationStore, read_conversation
from trainer.contract.errors import AppError


def talk(*contents: str, **fields: object) -> Conversation:
    roles = ("user", "assistant")
    turns = [Turn(role=roles[i % 2], content=text) for i, text in enumerate(contents)]
    return Conversation(turns=turns, **fields)  # type: ignore[arg-type]


def test_what_is_saved_is_found_again_latest_first(tmp_path: Path) -> None:
    store = ConversationStore(tmp_path / "聊天 chats")
    assert store.load().conversations == []
    old, new = talk("a", "b", changed_ts=1.0), talk("界", changed_ts=2.0, title="T")
    old.settings.sampling.stop = ["\n\n", "0"]
    for one in (new, old):
        store.save(one)
    assert store.load().conversations == [new, old]
    store.delete(new.id)
    store.delete(new.id)
    assert store.load().conversations == [old]
    assert [path.suffix for path in store.folder.iterdir()] == [".json"]


def test_a_broken_file_is_told_left_alone_and_harms_no_other(tmp_path: Path) -> None:
    store = ConversationStore(tmp_path)
    store.save(talk("a"))
    broken = {
        "half": b'{"turns": [',
        "list": b"[]",
        "bytes": b"\xff\xfe\x00",
        "roles": b'{"turns": [{"role": "x"}]}',
    }
    for name, content in broken.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    (tmp_path / "future.json").write_text('{"version": 2}')
    (tmp_path / "notes.txt").write_text("mine")
    found = store.load()
    assert len(found.conversations) == 1
    assert {path.stem for path in found.broken} == {*broken, "future"}
    assert (tmp_path / "half.json").read_bytes() == broken["half"]


def test_a_copied_file_is_a_conversation_of_its_own(tmp_path: Path) -> None:
    store = ConversationStore(tmp_path)
    store.save(talk("a", id="one"))
    (tmp_path / "one copy.json").write_bytes((tmp_path / "one.json").read_bytes())
    found = store.load().conversations
    assert {one.id for one in found} == {"one", "one copy"}
    for one in found:
        store.save(one)
    assert {one.id for one in store.load().conversations} == {"one", "one copy"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AppError) as caught:
        ConversationStore(tmp_path / "x").save(talk("a"))
    tmp_path.chmod(0o700)
    assert caught.value.code == "not_writable"


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(AppError) as caught:
        ConversationStore(tmp_path / "x").save(talk("a"))
    assert caught.value.code == "not_writable"


def test_an_imported_conversation_gets_an_id_of_its_own(tmp_path: Path) -> None:
    one = talk("a", "b")
    path = tmp_path / "from a friend.json"
    path.write_text(one.model_dump_json())
    found = read_conversation(path)
    assert found.turns == one.turns
    assert found.id != one.id
    for bad in ("{", '{"turns": 3}'):
        path.write_text(bad)
        with pytest.raises(AppError) as caught:
            read_conversation(path)
        assert caught.value.code == "chat_file_unreadable"


def test_names_and_search() -> None:
    one = talk("  What is\n\nRWKV? ", "An RNN")
    assert one.name() == "What is RWKV?"
    assert talk("x" * 100).name() == "x" * 59 + "…"
    assert talk().name() == ""
    one.title = "Mine"
    assert one.name() == "Mine"
    assert one.holds("rnn what")
    assert not one.holds("rnn lstm")


def test_the_request_leaves_earlier_thoughts_out() -> None:
    one = talk("2+2?", "<think>easy</think>\n4", "3+3?")
    one.settings.system = " Be brief. "
    one.settings.sampling.stop = ["END", "261"]
    one.settings.sampling.seed = 7
    body = one.body()
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "3+3?"},
    ]
    assert (body["stop"], body["stop_token_ids"], body["seed"]) == (["END"], [261], 7)
    one.settings.thinking = "on"
    assert one.body()["messages"][-1] == {"role": "assistant", "content": "<think>"}
    assert without_thought("<think>never ended") == ""


def test_markdown_to_read() -> None:
    one = talk("Hi", "```\nx\n```", title="T")
    one.settings.system = "Be\nkind"
    assert one.as_markdown("You", "m") == "# T\n\n> Be\n> kind\n\n## You\n\nHi\n\n## m\n\n```\nx\n```\n"


def test_json_is_utf8_to_read(tmp_path: Path) -> None:
    store = ConversationStore(tmp_path)
    one = talk("界")
    store.save(one)
    raw = store.path(one.id).read_text("utf-8")
    assert "界" in raw
    assert json.loads(raw)["version"] == 1

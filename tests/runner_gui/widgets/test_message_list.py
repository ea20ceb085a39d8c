"""Messages on screen: parts, folding, editing, long conversations built in slices."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt, QUrl
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from runner_gui import theme
from runner_gui.i18n import set_language
from runner_gui.model.conversation import Conversation, Turn
from runner_gui.model.message_parts import Part
from runner_gui.services.talk import Talk
from runner_gui.widgets import message_parts_view
from runner_gui.widgets.message_list import SHOWN, MessageList
from runner_gui.widgets.message_parts_view import CodeView, ProseView, ThoughtView
from runner_gui.widgets.message_view import MessageView

ANSWER = "<think>hm</think>\n# Title\nsome **bold** words\n```python\nx = 1\n```\nend"


class PlayedTalk(Talk):
    """A talk whose answer a test plays."""

    coming = False

    @property
    def is_answering(self) -> bool:
        return self.coming

    def begin(self) -> None:
        self.conversation.turns.append(Turn(role="assistant", content=""))
        self.coming, self._pieces = True, [""]
        self.turns_changed.emit()

    def give(self, piece: str) -> None:
        self._pieces.append(piece)
        self.text_received.emit(piece)

    def end(self) -> None:
        self.coming = False
        self._gather()
        self.turns_changed.emit()


def turns(*contents: str) -> list[Turn]:
    return [Turn(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(contents)]  # type: ignore[arg-type]


@pytest.fixture
def shown(dressed: QApplication, qtbot: QtBot) -> MessageList:
    messages = MessageList()
    qtbot.addWidget(messages)
    messages.resize(600, 500)
    messages.show()
    return messages


def drawn(view: MessageView) -> list[object]:
    """Its parts' views, all of them drawn."""
    return [view._body.itemAt(i).widget() for i in range(view._body.count())]


def test_parts_have_views_of_their_own(shown: MessageList, qtbot: QtBot) -> None:
    shown.show_talk(Talk(Conversation(turns=turns("hi", ANSWER))))
    qtbot.waitUntil(lambda: len(shown.views) == 2 and len(drawn(shown.views[1])) == 4)
    thought, prose, code, end = drawn(shown.views[1])
    assert isinstance(thought, ThoughtView)
    assert isinstance(prose, ProseView)
    assert isinstance(code, CodeView)
    assert isinstance(end, ProseView)
    assert prose.toPlainText().split("\n") == ["Title", "some bold words"]
    assert code.text.toPlainText() == "x = 1"
    assert (code.language.text(), thought.fold.text()) == ("python", "Thought")
    assert not thought.text.isVisibleTo(thought)
    thought.fold.click()
    assert thought.text.isVisibleTo(thought)
    assert thought.text.toPlainText() == "hm"
    code.copy.click()
    assert QApplication.clipboard().text() == "x = 1\n"
    shown.views[1].buttons["copy"].click()
    assert QApplication.clipboard().text() == ANSWER
    set_language("zh_CN")
    assert thought.fold.text() == "思考过程"
    assert shown.views[0].who.full_text() == "你"


def test_html_is_shown_and_nothing_is_loaded(
    shown: MessageList, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(message_parts_view.QDesktopServices, "openUrl", opened.append)
    prose = ProseView()
    qtbot.addWidget(prose)
    prose.show_part(Part("prose", '<b>x</b> <img src="file:///etc/hostname"> ![y](file:///etc/hostname)'))
    assert "<b>x</b>" in prose.toPlainText()
    assert prose.loadResource(2, QUrl("file:///etc/hostname")) is None
    prose.anchorClicked.emit(QUrl("file:///etc/hostname"))
    prose.anchorClicked.emit(QUrl("https://www.rwkv.com"))
    assert [url.toString() for url in opened] == ["https://www.rwkv.com"]


def test_an_answer_grows_and_only_its_end_is_drawn_anew(shown: MessageList, qtbot: QtBot) -> None:
    talk = PlayedTalk(Conversation(turns=turns("go")))
    shown.show_talk(talk)
    talk.begin()
    qtbot.waitUntil(lambda: len(shown.views) == 2)
    view = shown.views[1]
    assert not view.buttons["edit"].isEnabled()
    talk.give("First line\n```c\nint")
    qtbot.waitUntil(lambda: len(drawn(view)) == 2)
    first, code = drawn(view)
    assert isinstance(code, CodeView)
    for piece in (" x", ";\n", "```\nMore"):
        talk.give(piece)
    qtbot.waitUntil(lambda: len(drawn(view)) == 3)
    assert drawn(view)[:2] == [first, code]
    assert code.text.toPlainText() == "int x;"
    talk.give(" and the end")
    talk.end()
    qtbot.waitUntil(lambda: drawn(view)[2].toPlainText() == "More and the end")  # type: ignore[attr-defined]
    assert shown.views[1] is view  # what was drawn as it came is not built again
    assert view.buttons["edit"].isEnabled()
    assert talk.conversation.turns[1].content == "First line\n```c\nint x;\n```\nMore and the end"


def test_a_turn_is_edited_in_place(shown: MessageList, qtbot: QtBot) -> None:
    talk = Talk(Conversation(turns=turns("one", "two", "three")))
    shown.show_talk(talk)
    qtbot.waitUntil(lambda: len(shown.views) == 3)
    view = shown.views[1]
    view.begin_edit()
    assert view.editor is not None
    view.editor.setPlainText("other words")
    qtbot.keyClick(view.editor, Qt.Key.Key_Escape)
    assert talk.conversation.turns[1].content == "two"
    view.begin_edit()
    view.editor.setPlainText("2\n2")
    qtbot.keyClick(view.editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert talk.conversation.turns[1].content == "2\n2"
    qtbot.waitUntil(lambda: len(shown.views) == 3)
    shown.views[0].buttons["remove"].click()
    assert [turn.content for turn in talk.conversation.turns] == ["2\n2", "three"]
    qtbot.waitUntil(lambda: len(shown.views) == 2)


def test_of_a_long_conversation_the_end_is_there_and_the_rest_when_asked_for(
    shown: MessageList, qtbot: QtBot
) -> None:
    talk = Talk(Conversation(turns=turns(*(f"Turn {number}" for number in range(SHOWN + 15)))))
    shown.show_talk(talk)
    qtbot.waitUntil(lambda: len(shown.views) == SHOWN)
    assert shown.views[-1].turn.content == f"Turn {SHOWN + 14}"
    assert shown.earlier.text() == "Show earlier messages (15)"
    bar = shown.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0 and bar.value() == bar.maximum())
    shown.earlier.click()
    qtbot.waitUntil(lambda: len(shown.views) == SHOWN + 15)
    assert not shown.earlier.isVisible()
    assert shown.views[0].turn.content == "Turn 0"


def test_another_talk_takes_the_place_of_the_one_before(shown: MessageList, qtbot: QtBot) -> None:
    first = PlayedTalk(Conversation(turns=turns("a")))
    shown.show_talk(first)
    first.begin()
    second = Talk(Conversation())
    shown.show_talk(second)
    first.give("unseen")
    first.end()
    assert shown.views == []
    assert shown.empty.isVisible()
    shown.show_talk(first)
    qtbot.waitUntil(lambda: len(shown.views) == 2)
    assert shown.views[1].shown == "unseen"


def test_the_theme_reaches_what_is_drawn(shown: MessageList, qtbot: QtBot) -> None:
    shown.show_talk(Talk(Conversation(turns=turns("hi", "[link](https://a.b)"))))
    qtbot.waitUntil(lambda: len(shown.views) == 2 and len(drawn(shown.views[1])) == 1)
    prose = drawn(shown.views[1])[0]
    assert isinstance(prose, ProseView)
    theme.theme.apply("dark")
    colour = prose.document().firstBlock().begin().fragment().charFormat().foreground().color().name()
    assert colour == theme.color("accent_text").name()

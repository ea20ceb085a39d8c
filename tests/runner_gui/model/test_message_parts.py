from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runner_gui.model.message_parts import PROSE_CHARS, MessageParts

PIECES = st.sampled_from(
    [
        "```",
        "`",
        "~~~",
        "\n",
        "\n\n",
        "<think>",
        "</think>",
        "<thi",
        "word ",
        "- item",
        "| a | b |",
        "python",
        " ",
        "界",
    ]
)


def parts(text: str) -> list[tuple[str, str]]:
    message = MessageParts(text)
    message.finish()
    return [(part.kind, part.text) for part in message.parts]


def test_a_thought_prose_and_code() -> None:
    message = MessageParts("<think>a\n\nb</think>\n\nHello\n\n```python\nx = '```'\n\ny\n```\nBye `x`")
    message.finish()
    assert [(part.kind, part.text, part.language) for part in message.parts] == [
        ("thought", "a\n\nb", ""),
        ("prose", "Hello", ""),
        ("code", "x = '```'\n\ny\n", "python"),
        ("prose", "Bye `x`", ""),
    ]


def test_what_is_unfinished_is_shown_and_what_may_become_a_fence_is_not() -> None:
    message = MessageParts("Some wor")
    assert (message.parts[0].text, message.parts[0].is_open) == ("Some wor", True)
    message.append("ds\n``")
    assert message.parts[0].text == "Some words\n"
    message.append("`c\nint x")
    assert [(p.kind, p.text) for p in message.parts] == [("prose", "Some words"), ("code", "int x")]
    message.finish()
    assert not message.parts[-1].is_open


def test_a_thought_without_end_and_a_tag_that_is_none() -> None:
    assert parts("<think>still") == [("thought", "still")]
    assert parts("<thinker> is a word") == [("prose", "<thinker> is a word")]
    assert parts("<thi") == [("prose", "<thi")]
    assert parts("x <think>y") == [("prose", "x <think>y")]


def test_lines_are_paragraphs_but_lists_and_tables_stay_whole() -> None:
    text = "One\ntwo\n- a\n- b\nthree\n| x | y |\n|---|---|\n| 1 | 2 |"
    message = MessageParts(text)
    assert message.parts[0].markdown() == ("One\n\ntwo\n- a\n- b\n\nthree\n| x | y |\n|---|---|\n| 1 | 2 |")


def test_long_prose_is_many_parts_of_bounded_size() -> None:
    lines = "\n".join(f"Line {number} of a long answer." for number in range(2000))
    found = parts(lines)
    assert len(found) > 20
    assert max(len(text) for _, text in found) < PROSE_CHARS + 100
    assert "\n".join(text for _, text in found) == lines
    unbroken = parts("word " * 20_000)
    assert max(len(text) for _, text in unbroken) < 10 * PROSE_CHARS
    assert "".join(text for _, text in unbroken).replace(" ", "") == "word" * 20_000


@given(st.lists(PIECES, max_size=30))
def test_the_parts_do_not_depend_on_how_the_text_came(pieces: list[str]) -> None:
    text = "".join(pieces)
    together = parts(text)
    message = MessageParts()
    for number, piece in enumerate(pieces):
        before = [(part.kind, part.text) for part in message.parts]
        changed = message.append(piece)
        assert before[:changed] == [(part.kind, part.text) for part in message.parts[:changed]], number
    message.finish()
    assert [(part.kind, part.text) for part in message.parts] == together
    marks = "`~\n </>think"

    def words(value: str) -> str:
        return "".join(letter for letter in value if letter not in marks)

    if "```" not in text and "~~~" not in text:
        assert words("".join(value for _, value in together)) == words(text)

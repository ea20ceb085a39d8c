from __future__ import annotations

import pytest

from trainer.data.templates import Message, Segment, clean, dialogue, instruction, with_thought
from trainer.data.tokenizers import load_tokenizer
from trainer.inference.chat import render


def test_answers_are_segments_of_their_own() -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", " Hi\r\n\r\nthere "),
        Message("assistant", "Hello.\n \nYes?"),
        Message("user", "Bye"),
        Message("assistant", ""),
    ]
    assert dialogue(messages) == (
        Segment("System: Be brief.\n\nUser: Hi\nthere\n\nAssistant:", counts=False),
        Segment(" Hello.\nYes?", counts=True),
        Segment("\n\nUser: Bye\n\nAssistant:", counts=False),
    )


def test_an_instruction_without_input() -> None:
    assert instruction("Do\n\n\nit", "", "done") == (
        Segment("Instruction: Do\nit\n\nResponse:", counts=False),
        Segment(" done", counts=True),
    )
    assert instruction("a", "b", "")[0].text == "Instruction: a\n\nInput: b\n\nResponse:"


@pytest.mark.parametrize(
    ("answer", "thought", "think", "expected"),
    [
        ("4", "2+2", "keep", "<think>2+2\n</think>\n4"),
        ("<think>2+2</think>\n4", "other", "keep", "<think>2+2</think>\n4"),
        ("4", " ", "keep", "4"),
        ("<think>a\n\nb</think>\n\n4", "", "drop", "4"),
        ("4", "2+2", "drop", "4"),
        ("<think>x</think>4", "", "empty", "<think>\n</think>\n4"),
    ],
)
def test_thoughts(answer: str, thought: str, think, expected: str) -> None:
    assert with_thought(answer, thought, think) == expected


def test_a_prompt_has_the_very_ids_of_training() -> None:
    """What the model is asked is, token by token, the beginning of what it was trained on."""
    tokenizer = load_tokenizer(None)
    talk = [Message("user", "你好 :"), Message("assistant", "Hi.  x"), Message("user", "and\n\tthen"),
            Message("assistant", "end")]  # fmt: skip
    trained = [token for segment in dialogue(talk) for token in tokenizer.encode(segment.text)]
    prompt = render(talk[:3]).encode(tokenizer)
    assert trained[: len(prompt)] == prompt
    # No token of the World vocabulary crosses a boundary, so these are the ids of the text as a whole too.
    assert trained == tokenizer.encode("".join(segment.text for segment in dialogue(talk)))


def test_blank_lines_with_spaces_are_blank() -> None:
    assert clean("a\n \t\n\n  b\u3000\n") == "a\n  b"

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.inference.tool_calls import ToolCall, ToolCallStream

CALL = '```json\n{"name": "f", "arguments": {"x": 1}}\n```'


def taken(
    text: str, *, begun: str | None = None, whole: bool = True, step: int = 1
) -> tuple[str, list[tuple[str, str]]]:
    """The words and calls of an answer that comes in pieces."""
    stream = ToolCallStream({"f", "g"}, begun)
    words, calls = "", list[ToolCall]()
    for at in range(0, len(text), step):
        more, found = stream.push(text[at : at + step])
        words, calls = words + more, calls + found
    rest, last = stream.finish(whole=whole)
    return words + rest, [(call.name, call.arguments) for call in (*calls, *last)]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_calls_are_taken_out_of_the_words(step: int) -> None:
    assert taken(f"I look.\n{CALL}", step=step) == ("I look.\n", [("f", '{"x": 1}')])
    both = '```json\n[{"name": "f", "arguments": {}}, {"name": "g", "arguments": "{\\"y\\": 2}"}]\n```'
    assert taken(both, step=step) == ("", [("f", "{}"), ("g", '{"y": 2}')])


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "unknown", "arguments": {}}\n```',
        '```json\n{"colour": "red"}\n```',
        "```json\nnot json\n```",
        "```json\n[1, 2]\n```",
        '```json\n[{"name": "f"}, 3]\n```',
        '```json\n{"name": ["f"]}\n```',
        "```python\nprint()\n``` and `x`",
        "```json",
        "``",
        "[" * 5000,
    ],
)
def test_everything_else_is_words(text: str) -> None:
    assert taken(text) == (text, [])


def test_a_call_that_is_cut_short_is_words() -> None:
    cut = CALL[:-8]
    assert taken(cut, whole=False) == (cut, [])
    open_block = CALL.removesuffix("\n```")
    assert taken(open_block) == ("", [("f", '{"x": 1}')])
    assert taken(open_block, whole=False) == (open_block, [])


def test_a_call_that_the_prompt_began() -> None:
    assert taken(' {"x": 1}}', begun='\n{"name": "f", "arguments":') == ("", [("f", '{"x": 1}')])
    assert taken("\nno", begun="") == ("```json\nno", [])


def test_each_call_has_an_id_of_its_own() -> None:
    first, second = ToolCall("f", "{}"), ToolCall("f", "{}")
    assert first.id != second.id
    assert json.loads(json.dumps(first.as_json()))["function"] == {"name": "f", "arguments": "{}"}


@given(st.text(alphabet="`json \n{}x", max_size=40))
def test_no_word_is_lost(text: str) -> None:
    assert taken(text) == (text, [])

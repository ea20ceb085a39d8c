from __future__ import annotations

from typing import Any

import pytest

from trainer.contract.errors import InputError
from trainer.data.documents import BadRecordError, Document
from trainer.data.records import RenderOptions, document_of, parse_columns

PLAIN = RenderOptions()


def _shown(document: Document) -> str:
    """The document with what counts in brackets."""
    if not isinstance(document.content, tuple):
        return "".join(document.content)
    return "".join(f"[{s.text}]" if s.counts else s.text for s in document.content)


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"text": "a\n\nb", "meta": 1}, "text", "a\n\nb"),
    (
        {"messages": [{"role": "System", "content": "s"}, {"role": "user", "content": "q\n\nr"},
                      {"role": "assistant", "content": " a "}]},
        "messages",
        "System: s\n\nUser: q\nr\n\nAssistant:[ a]",
    ),
    (
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"},
                                          {"from": "human", "value": "r"}, {"from": "gpt", "value": "b"}]},
        "conversations",
        "System: s\n\nUser: q\n\nAssistant:[ a]\n\nUser: r\n\nAssistant:[ b]",
    ),
    (
        {"instruction": "do", "input": "x", "output": "y", "text": "### Instruction"},
        "alpaca",
        "User: do\nx\n\nAssistant:[ y]",
    ),
    (
        {"instruction": "do", "output": "y", "history": [["q", "a"]], "system": "s"},
        "alpaca",
        "System: s\n\nUser: q\n\nAssistant:[ a]\n\nUser: do\n\nAssistant:[ y]",
    ),
    (
        {"Instruction": "do", "Input": "x", "Response": "y"},
        "instruction",
        "Instruction: do\n\nInput: x\n\nResponse:[ y]",
    ),
    ({"prompt": "q", "completion": " a"}, "prompt_completion", "User: q\n\nAssistant:[ a]"),
    (
        {"prompt": "User: q\n\nAssistant:", "completion": " a\n\n"},
        "prompt_completion",
        "User: q\n\nAssistant:[ a\n\n]",
    ),
    (
        {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
        "prompt_completion",
        "User: q\n\nAssistant:[ a]",
    ),
    ({"question": "q", "answer": "a", "id": 7}, "question_answer", "User: q\n\nAssistant:[ a]"),
    # A table has every column in every row.
    ({"text": None, "question": "q", "answer": "a"}, "question_answer", "User: q\n\nAssistant:[ a]"),
    ({"messages": '[{"role": "user", "content": "q"}]'}, "messages", "User: q"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}, {"text": "r"}]},
                      {"role": "assistant", "content": "a", "weight": 0}]},
        "messages",
        "User: q\nr\n\nAssistant: a",
    ),
    (
        {"tools": [{"name": "f"}],
         "messages": [{"role": "user", "content": "q"},
                      {"role": "assistant", "content": None,
                       "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]},
                      {"role": "tool", "content": "42"},
                      {"role": "assistant", "reasoning_content": "so", "content": "a"}]},
        "messages",
        'System: Tools:\n[{"name": "f"}]\n\nUser: q\n\nAssistant:'
        '[ ```json\n{"name": "f", "arguments": {"x": 1}}\n```]'
        "\n\nUser: Function output:\n42\n\nAssistant:[ <think>so\n</think>\na]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("record", "shape", "expected"), CASES)
def test_shapes(record: dict[str, Any], shape: str, expected: str) -> None:
    document = document_of(record, PLAIN)
    assert (document.shape, _shown(document)) == (shape, expected)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (5, "not a JSON object"),
        ({}, "no known fields ()"),
        ({"a": 1, "b": 2}, "no known fields (a, b)"),
        ({"text": 5}, "“text” is not a string"),
        ({"messages": []}, "“messages” is not a list of turns"),
        ({"messages": "hello"}, "“messages” is not a list of turns"),
        ({"messages": ["hello"]}, "turn 1 is not an object"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "turn 1 has the unknown role “narrator”"),
        ({"messages": [{"role": "user", "content": 5}]}, "turn 1 has no text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "turn 1 has parts that are not text",
        ),
        ({"messages": [{"role": "user", "content": " "}]}, "empty"),
        ({"instruction": "x", "output": 5}, "“output” is not a string"),
        ({"instruction": "x", "output": "y", "history": "z"}, "“history” is not a list of pairs"),
        ({"prompt": "", "completion": "x"}, "“prompt” is empty"),
    ],
)
def test_what_is_no_document(record: Any, reason: str) -> None:
    with pytest.raises(BadRecordError) as caught:
        document_of(record, PLAIN)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("turns", "remarks"),
    [
        ("ua", set()), ("sua", set()), ("uata", set()), ("uattta", set()), ("uaua", set()),
        ("u", {"unbalanced_roles"}), ("s", {"unbalanced_roles"}), ("uuaa", {"unbalanced_roles"}),
        ("a", {"unbalanced_roles"}), ("uA", {"empty_answer"}), ("uAu", {"empty_answer", "unbalanced_roles"}),
    ],
)  # fmt: skip
def test_remarks(turns: str, remarks: set[str]) -> None:
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    messages = [{"role": names[t.lower()], "content": "" if t.isupper() else "x"} for t in turns]
    assert document_of({"messages": messages}, PLAIN).remarks == remarks


def test_columns_that_are_chosen() -> None:
    options = RenderOptions(parse_columns(" prompt=Frage, completion = Antwort "), "keep")
    record = {"Frage": "q", "Antwort": "a", "text": "other"}
    assert _shown(document_of(record, options)) == "User: q\n\nAssistant:[ a]"
    assert parse_columns(None) == {}
    for wrong in ("prompt", "prompt=", "colour=x"):
        with pytest.raises(InputError) as caught:
            parse_columns(wrong)
        assert caught.value.code == "data_columns_unknown"


def test_thoughts_follow_the_option() -> None:
    record = {"messages": [{"role": "user", "content": "q"},
                           {"role": "assistant", "content": "<think>\nx\n\ny\n</think>\n\na"}]}  # fmt: skip
    shown = {
        think: _shown(document_of(record, RenderOptions({}, think))) for think in ("keep", "drop", "empty")
    }
    assert shown == {
        "keep": "User: q\n\nAssistant:[ <think>\nx\ny\n</think>\na]",
        "drop": "User: q\n\nAssistant:[ a]",
        "empty": "User: q\n\nAssistant:[ <think>\n</think>\na]",
    }

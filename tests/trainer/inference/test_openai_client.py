"""OpenAI's own client against the real server: every kind of request, errors, and several at once."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI

from trainer.data.tokenizers import Tokenizer
from trainer.inference.engine import Engine

QUESTION: Any = [{"role": "user", "content": "What is the weather in 北京?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = '```json\n{"name": "get_weather", "arguments": {"city": "北京"}}\n```'


class Scripted:
    """An engine that says a text after each prompt, so that tool calls can be had without a large model."""

    generation, device = "7", "cpu"

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        self.vocab_size = 65536
        self.prompts: list[str] = []
        self._tokenizer = tokenizer
        self._script = [*tokenizer.encode(text), 0]

    def forward(self, tokens: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
        at = state or 0
        if state is not None and list(tokens) == [self._script[at]]:
            at += 1
        else:
            self.prompts.append(self._tokenizer.decode(list(tokens)))
            at = 0
        logits = np.zeros(self.vocab_size, np.float32)
        logits[self._script[at]] = 50.0
        return logits, at

    def state_bytes(self, state: Any) -> int:
        return 8

    def last_hidden(self, state: Any) -> np.ndarray:
        return np.ones(2, np.float32)


def official(client: httpx.Client, key: str = "any") -> OpenAI:
    return OpenAI(base_url=f"{client.base_url}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def ai(running: Any, engine: Engine, tokenizer: Tokenizer) -> Iterator[OpenAI]:
    with running(engine, tokenizer, max_waiting=64) as client, official(client) as ai:
        yield ai


@pytest.fixture
def scripted(running: Any, tokenizer: Tokenizer) -> Iterator[Any]:
    """`scripted(text)`: a client of a server whose model says that, and the model."""
    open_now = []

    def begin(text: str) -> tuple[OpenAI, Scripted]:
        model = Scripted(tokenizer, text)
        server = running(model, tokenizer)
        client = official(server.__enter__())
        open_now.append((server, client))
        return client, model

    yield begin
    for server, client in open_now:
        client.close()
        server.__exit__(None, None, None)


def test_models(ai: OpenAI) -> None:
    assert [model.id for model in ai.models.list()] == ["tiny"]
    assert ai.models.retrieve("tiny").owned_by == "local"


def test_a_chat_and_its_stream(ai: OpenAI) -> None:
    body: Any = {"model": "tiny", "messages": QUESTION, "max_tokens": 8, "seed": 3, "top_p": 1, "n": 2}
    whole = ai.chat.completions.create(**body)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 16
    texts, reasons, counted = ["", ""], {}, 0
    for chunk in ai.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}):
        counted = chunk.usage.completion_tokens if chunk.usage else counted
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert texts[0] != texts[1]
    assert reasons == {0: "length", 1: "length"}
    assert counted == 16


def test_an_answer_that_was_begun_keeps_the_space_in_front(scripted: Any) -> None:
    ai, model = scripted(" world")
    begun: Any = [*QUESTION, {"role": "assistant", "content": "Hello"}]
    answer = ai.chat.completions.create(model="tiny", messages=begun)
    assert answer.choices[0].message.content == " world"
    assert model.prompts[-1].endswith("Assistant: Hello")


def test_logprobs(ai: OpenAI) -> None:
    answer = ai.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3
    )
    found = answer.choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert [len(token.top_logprobs) for token in found.content] == [3] * 4
    assert all(token.logprob == max(top.logprob for top in token.top_logprobs) for token in found.content)
    legacy = ai.completions.create(model="tiny", prompt="One day", max_tokens=3, logprobs=2, temperature=0)
    assert legacy.choices[0].logprobs is not None
    assert len(legacy.choices[0].logprobs.token_logprobs or ()) == 3


def test_a_text_completion_stops_where_it_is_told(ai: OpenAI) -> None:
    bias = {"24281": 100, "0": -100}
    choice = ai.completions.create(
        model="tiny", prompt="a", max_tokens=9, logit_bias=bias, stop=["rUs"]
    ).choices[0]
    assert (choice.text, choice.finish_reason) == ("Use", "stop")
    by_token = ai.completions.create(
        model="tiny", prompt="a", max_tokens=9, logit_bias=bias, extra_body={"stop_token_ids": [24281]}
    )
    assert (by_token.choices[0].text, by_token.choices[0].finish_reason) == ("", "stop")


@pytest.mark.parametrize("answer", [CALL, CALL.removesuffix("\n```")])
def test_a_tool_call_whole_and_streamed(scripted: Any, answer: str) -> None:
    ai, model = scripted(f" {answer}")
    body: Any = {"model": "tiny", "messages": QUESTION, "tools": [WEATHER], "max_tokens": 64}
    choice = ai.chat.completions.create(**body).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    call = choice.message.tool_calls[0]
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "北京"}
    assert model.prompts[0].startswith(
        'System: Tools:\n[{"type": "function", "function": {"name": "get_weather"'
    )
    assert model.prompts[-1].endswith("Assistant:")

    names, arguments, said, reason = [], "", "", None
    for chunk in ai.chat.completions.create(**body, stream=True):
        delta = chunk.choices[0].delta
        said += delta.content or ""
        for part in delta.tool_calls or ():
            names += [part.function.name] if part.function.name else []
            arguments += part.function.arguments or ""
        reason = chunk.choices[0].finish_reason or reason
    assert (names, json.loads(arguments), said, reason) == (
        ["get_weather"], {"city": "北京"}, "", "tool_calls",
    )  # fmt: skip


def test_a_tools_result_goes_back_in_the_models_template(scripted: Any) -> None:
    ai, model = scripted(" Sunny.")
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "北京"}'},
    }
    talk: Any = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "clear"}'},
    ]
    answer = ai.chat.completions.create(model="tiny", messages=talk, tools=[WEATHER])
    assert answer.choices[0].message.content == "Sunny."
    assert answer.choices[0].finish_reason == "stop"
    whole = "".join(model.prompts)
    assert f'Assistant: {CALL}\n\nUser: Function output:\n{{"sky": "clear"}}\n\nAssistant:' in whole


def test_a_call_that_is_asked_for_is_begun_for_the_model(scripted: Any) -> None:
    ai, model = scripted(' {"city": "上海"}}\n```\n\nUser: and then')
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    choice = ai.chat.completions.create(
        model="tiny", messages=QUESTION, tools=[WEATHER], tool_choice=named
    ).choices[0]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "上海"}
    assert model.prompts[-1].endswith('Assistant: ```json\n{"name": "get_weather", "arguments":')

    ai, model = scripted('\n{"name": "get_weather", "arguments": {}}')
    choice = ai.chat.completions.create(
        model="tiny", messages=QUESTION, tools=[WEATHER], tool_choice="required"
    ).choices[0]
    assert choice.message.tool_calls[0].function.arguments == "{}"
    assert model.prompts[-1].endswith("Assistant: ```json")


def test_no_tools_where_none_are_wanted(scripted: Any) -> None:
    ai, model = scripted(f" {CALL}")
    choice = ai.chat.completions.create(
        model="tiny", messages=QUESTION, tools=[WEATHER], tool_choice="none"
    ).choices[0]
    assert (choice.message.content, choice.message.tool_calls) == (CALL, None)
    assert "Tools:" not in model.prompts[0]


def test_embeddings(ai: OpenAI, engine: Engine, tokenizer: Tokenizer) -> None:
    texts = ["Hello", "你好", "x" * 600]
    found = ai.embeddings.create(model="tiny", input=texts)
    assert [item.index for item in found.data] == [0, 1, 2]
    assert found.usage.prompt_tokens == sum(len(tokenizer.encode(text)) for text in texts)
    for text, item in zip(texts, found.data, strict=True):
        _, state = engine.forward(tokenizer.encode(text), None)
        hidden = engine.last_hidden(state).astype(np.float64)
        expected = hidden / np.linalg.norm(hidden)
        assert np.abs(np.asarray(item.embedding) - expected).max() < 1e-4
        assert abs(np.linalg.norm(item.embedding) - 1) < 1e-5
    plain = ai.embeddings.create(model="tiny", input=tokenizer.encode("Hello"), encoding_format="float")
    assert np.allclose(plain.data[0].embedding, found.data[0].embedding)
    raw: Any = ai.embeddings.with_raw_response.create(model="tiny", input="Hello", encoding_format="base64")
    coded = json.loads(raw.content)["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), np.float32(plain.data[0].embedding))


def test_errors_are_the_clients_own(ai: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        ai.models.retrieve("gpt-4")
    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(model="tiny", messages=QUESTION, temperature=9)
    assert (caught.value.param, caught.value.code) == ("temperature", "invalid_value")
    other: Any = {"type": "function", "function": {"name": "other"}}
    with pytest.raises(openai.BadRequestError, match="not in tools"):
        ai.chat.completions.create(model="tiny", messages=QUESTION, tools=[WEATHER], tool_choice=other)


def test_a_wrong_key(running: Any, engine: Engine, tokenizer: Tokenizer) -> None:
    with running(engine, tokenizer, api_key="secret") as client:
        with official(client, "wrong") as ai, pytest.raises(openai.AuthenticationError):
            ai.models.list()
        with official(client, "secret") as ai:
            assert [model.id for model in ai.models.list()] == ["tiny"]


def test_a_model_that_breaks_ends_the_stream_with_an_error(scripted: Any) -> None:
    ai, model = scripted(" never said")

    def broken(tokens: Sequence[int], state: Any) -> tuple[np.ndarray, Any]:
        return np.full(model.vocab_size, np.nan, np.float32), 0

    model.forward = broken
    with pytest.raises(openai.APIError, match="not finite"):
        list(ai.chat.completions.create(model="tiny", messages=QUESTION, stream=True))
    with pytest.raises(openai.InternalServerError):
        ai.chat.completions.create(model="tiny", messages=QUESTION)


def test_many_clients_at_once_get_what_they_get_alone(ai: OpenAI) -> None:
    """Whole, streamed, several choices and vectors, more of them than there are slots."""

    def answer(number: int) -> Any:
        body: Any = {"model": "tiny", "max_tokens": 6, "seed": number, "top_p": 1}
        if number % 4 == 0:
            return ai.chat.completions.create(**body, messages=QUESTION, n=2).choices[1].message.content
        if number % 4 == 1:
            chunks = ai.chat.completions.create(**body, messages=QUESTION, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        if number % 4 == 2:
            return ai.completions.create(**body, prompt=f"Number {number}").choices[0].text
        return tuple(ai.embeddings.create(model="tiny", input=f"Text {number}").data[0].embedding)

    alone = [answer(number) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(answer, range(16)))
    for one, other in zip(alone, together, strict=True):
        assert one == other if isinstance(one, str) else np.allclose(one, other, atol=1e-5)

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from trainer.contract.errors import AppError
from trainer.data.tokenizers import Tokenizer
from trainer.inference.engine import Engine
from trainer.inference.generation import generate
from trainer.inference.hosting import bind
from trainer.inference.sampling import SamplingParams

ENDLESS = 500_000
CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 12,
    "seed": 5,
    "top_p": 1,
}


@pytest.fixture(scope="module")
def client(running: Any, engine: Engine, tokenizer: Tokenizer) -> Iterator[httpx.Client]:
    with running(engine, tokenizer) as client:
        yield client


def events(response: httpx.Response) -> Iterator[Any]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def streamed(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    with client.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response))


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def active(client: httpx.Client) -> int:
    return client.get("/health").json()["active"]


def test_models(client: httpx.Client) -> None:
    assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json()["object"] == "model"
    missing = client.get("/v1/models/gpt-4")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


def test_a_chat_answer(client: httpx.Client, engine: Engine, tokenizer: Tokenizer) -> None:
    answer = client.post("/v1/chat/completions", json=CHAT).json()
    prompt = "User: Hello\n\nAssistant:"
    params = SamplingParams(max_tokens=12, seed=5, top_p=1.0, stop=("\n\nUser:",))
    expected = "".join(piece.text for piece in generate(engine, tokenizer, prompt, params)).strip()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": expected, "refusal": None}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert abs(answer["created"] - time.time()) < 60
    n = len(tokenizer.encode(prompt))
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (n, 12, n + 12)


def test_streamed_pieces_join_to_the_whole_answer(client: httpx.Client) -> None:
    whole = client.post("/v1/chat/completions", json=CHAT).json()
    *chunks, usage, done = streamed(
        client, "/v1/chat/completions", {**CHAT, "stream_options": {"include_usage": True}}
    )
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1
    assert usage["usage"]["completion_tokens"] == 12
    assert usage["choices"] == []


def test_completions_take_text_lists_and_tokens(client: httpx.Client, tokenizer: Tokenizer) -> None:
    body = {"max_tokens": 6, "temperature": 0}

    def texts(prompt: Any) -> list[str]:
        choices = client.post("/v1/completions", json={**body, "prompt": prompt}).json()["choices"]
        assert [choice["index"] for choice in choices] == list(range(len(choices)))
        return [choice["text"] for choice in choices]

    a, b = texts("One day")[0], texts("从前")[0]
    assert texts(["One day", "从前"]) == [a, b]
    assert texts(tokenizer.encode("One day")) == [a]
    assert texts([tokenizer.encode("One day"), tokenizer.encode("从前")]) == [a, b]
    chunks = streamed(client, "/v1/completions", {**body, "prompt": "One day"})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == a


def test_n_choices_with_seeds_of_their_own(client: httpx.Client) -> None:
    def contents() -> list[str]:
        answer = client.post("/v1/chat/completions", json={**CHAT, "n": 3}).json()
        assert answer["usage"]["completion_tokens"] == 36
        return [choice["message"]["content"] for choice in answer["choices"]]

    first = contents()
    assert len(set(first)) == 3
    assert contents() == first
    chunks = streamed(client, "/v1/chat/completions", {**CHAT, "n": 3})[:-1]
    joined = ["", "", ""]
    for chunk in chunks:
        joined[chunk["choices"][0]["index"]] += chunk["choices"][0]["delta"].get("content", "")
    assert joined == first


def test_stop_texts_end_the_answer(client: httpx.Client) -> None:
    body = {"prompt": "One day", "max_tokens": 8, "temperature": 0}
    whole = client.post("/v1/completions", json=body).json()["choices"][0]["text"]
    stop = whole[len(whole) // 2 :][:3]
    choice = client.post("/v1/completions", json={**body, "stop": stop}).json()["choices"][0]
    assert choice == {
        "index": 0,
        "text": whole[: whole.index(stop)],
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_logprobs(client: httpx.Client, engine: Engine, tokenizer: Tokenizer) -> None:
    body = {**CHAT, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    content = client.post("/v1/chat/completions", json=body).json()["choices"][0]["logprobs"]["content"]
    assert len(content) == 12
    for entry in content:
        assert entry["logprob"] == entry["top_logprobs"][0]["logprob"] >= entry["top_logprobs"][1]["logprob"]
        assert bytes(entry["bytes"]).decode(errors="replace") == entry["token"] or entry["token"].startswith(
            "bytes:"
        )
    parts = [chunk["choices"][0]["logprobs"] for chunk in streamed(client, "/v1/chat/completions", body)[:-1]]
    assert [entry for part in parts if part for entry in part["content"]] == content

    legacy = client.post(
        "/v1/completions", json={"prompt": "a", "max_tokens": 3, "temperature": 0, "logprobs": 1}
    ).json()
    found = legacy["choices"][0]["logprobs"]
    assert "".join(found["tokens"]) == legacy["choices"][0]["text"]
    assert found["text_offset"] == [sum(map(len, found["tokens"][:i])) for i in range(3)]
    assert [next(iter(top.values())) for top in found["top_logprobs"]] == found["token_logprobs"]


def test_logit_bias(client: httpx.Client, tokenizer: Tokenizer) -> None:
    body = {"prompt": "a", "max_tokens": 3, "logit_bias": {"24281": 100}}
    assert client.post("/v1/completions", json=body).json()["choices"][0]["text"] == "User" * 3
    ended = client.post("/v1/completions", json={**body, "stop_token_ids": [24281]}).json()["choices"][0]
    assert (ended["text"], ended["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {}, "messages"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {**CHAT, "temperature": 9}, "temperature"),
        ("/v1/chat/completions", {**CHAT, "top_p": "much"}, "top_p"),
        ("/v1/chat/completions", {**CHAT, "tools": [{"type": "function"}]}, "tools.0.function"),
        ("/v1/chat/completions", {**CHAT, "tool_choice": "required"}, None),
        ("/v1/embeddings", {"input": []}, None),
        ("/v1/embeddings", {"input": ["a", ""]}, None),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}, "dimensions"),
        ("/v1/embeddings", {"input": [70000]}, "input"),
        ("/v1/chat/completions", {"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ("/v1/completions", {"prompt": [70000]}, "prompt"),
        ("/v1/completions", {"prompt": "a", "logit_bias": {"1": 1000}}, "logit_bias"),
    ],
)
def test_bad_requests_in_openais_shape(
    client: httpx.Client, path: str, body: dict[str, Any], param: str | None
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


def test_other_paths_methods_and_bodies_in_openais_shape(client: httpx.Client) -> None:
    assert client.get("/nothing").json()["error"]["code"] == "not_found"
    assert client.get("/v1/completions").status_code == 405
    broken = client.post("/v1/completions", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")


def test_the_api_key(running: Any, engine: Engine, tokenizer: Tokenizer) -> None:
    with running(engine, tokenizer, api_key="s3cret-é") as client:
        refused = client.get("/v1/models")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401
        good = {"Authorization": "Bearer s3cret-é".encode()}
        assert client.get("/v1/models", headers=good).status_code == 200


def test_foreign_host_names_are_refused(client: httpx.Client) -> None:
    assert client.get("/v1/models", headers={"Host": "evil.example:80"}).status_code == 403
    assert client.get("/v1/models", headers={"Host": "localhost"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "[::1]:8000"}).status_code == 200


def test_many_at_once_give_what_they_give_alone(client: httpx.Client) -> None:
    bodies = [
        {**CHAT, "messages": [{"role": "user", "content": f"Question {i}"}], "seed": i} for i in range(6)
    ]

    def content(body: dict[str, Any]) -> str:
        return client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]

    alone = [content(body) for body in bodies]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(content, bodies)) == alone


def test_a_short_answer_does_not_wait_for_a_long_one(client: httpx.Client) -> None:
    body = {**CHAT, "max_tokens": ENDLESS, "stream": True, "logit_bias": {"0": -100}}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        arriving = events(response)  # closing the iterator would close the connection
        next(arriving)
        assert client.post("/v1/chat/completions", json=CHAT).json()["usage"]["completion_tokens"] == 12
        wait_until(lambda: active(client) == 1)  # an answer is sent before its slot is free
    wait_until(lambda: active(client) == 0)


def test_a_client_that_leaves_its_stream_frees_its_slots(client: httpx.Client) -> None:
    body = {**CHAT, "max_tokens": ENDLESS, "n": 2, "stream": True, "logit_bias": {"0": -100}}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        arriving = events(response)  # closing the iterator would close the connection
        next(arriving)
        wait_until(lambda: active(client) == 2)
    wait_until(lambda: active(client) == 0)


def test_a_client_that_leaves_while_waiting_frees_its_slot(client: httpx.Client) -> None:
    body = {**CHAT, "max_tokens": ENDLESS, "logit_bias": {"0": -100}}
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body, timeout=0.5)
    wait_until(lambda: active(client) == 0)


def test_too_many_are_told_to_come_back(running: Any, engine: Engine, tokenizer: Tokenizer) -> None:
    with running(engine, tokenizer, slots=1, max_waiting=2) as client:
        body = {**CHAT, "max_tokens": ENDLESS, "stream": True, "logit_bias": {"0": -100}}
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            arriving = events(response)
            next(arriving)
            wait_until(lambda: active(client) == 1)
            refused = client.post("/v1/chat/completions", json={**CHAT, "n": 3})
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_a_busy_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AppError) as caught:
            bind("127.0.0.1", port)
    assert caught.value.code == "port_busy"
    assert caught.value.problem.args == {"port": port}


def test_an_address_of_another_machine() -> None:
    with pytest.raises(AppError) as caught:
        bind("192.0.2.1", 0)
    assert caught.value.code == "host_unavailable"


def test_a_conversations_next_turn_reads_only_what_is_new(client: httpx.Client) -> None:
    messages = [{"role": "system", "content": "Be kind to cats."}, {"role": "user", "content": "Hi"}]
    first = client.post("/v1/chat/completions", json={**CHAT, "messages": messages}).json()
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    messages += [first["choices"][0]["message"], {"role": "user", "content": "And dogs?"}]
    second = client.post("/v1/chat/completions", json={**CHAT, "messages": messages}).json()
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= first["usage"]["prompt_tokens"]

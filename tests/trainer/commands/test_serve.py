from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from trainer.contract.events import Event, EventFramer

TIMEOUT_S = 60


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("模型 'a'") / "tiny model.pth"
    make_checkpoint(path, vocab=65536)
    return path


@contextmanager
def serving(model: Path, *flags: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], Event]]:
    """The command as the window starts it; gives its `ready` event."""
    argv = [
        sys.executable,
        "-m",
        "trainer",
        "serve",
        "--model",
        str(model),
        "--port",
        "0",
        "--device",
        "cpu",
        *flags,
    ]
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **env},
    ) as process:
        try:
            yield process, ready_event(process)
        finally:
            if process.poll() is None:
                process.kill()


def ready_event(process: subprocess.Popen[bytes]) -> Event:
    assert process.stdout is not None
    framer = EventFramer()
    seen = []
    for line in process.stdout:
        for item in framer.feed(line):
            assert isinstance(item, Event), f"stdout holds {item!r}"
            seen.append(item.t)
            if item.t == "ready":
                assert [name for name in seen if name != "progress"] == ["phase", "ready"]
                return item
    raise AssertionError(f"it ended with {process.wait()}, after {seen}")


def test_it_says_where_it_listens_and_ends_with_its_parent(model_path: Path) -> None:
    with serving(model_path, "--exit-with-parent") as (process, ready):
        assert {name: ready[name] for name in ("host", "model", "generation", "device")} == {
            "host": "127.0.0.1", "model": "tiny model", "generation": "7", "device": "cpu",
        }  # fmt: skip
        answer = httpx.post(
            f"http://127.0.0.1:{ready['port']}/v1/completions",
            json={"prompt": "Hi", "max_tokens": 4},
            timeout=TIMEOUT_S,
        )
        assert answer.json()["usage"]["completion_tokens"] == 4
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_signal_ends_it_in_the_middle_of_an_answer(model_path: Path) -> None:
    body = {"prompt": "Hi", "max_tokens": 500_000, "stream": True, "logit_bias": {"0": -100}}
    with serving(model_path) as (process, ready):
        url = f"http://127.0.0.1:{ready['port']}/v1/completions"
        with httpx.stream("POST", url, json=body, timeout=TIMEOUT_S) as response:
            arriving = response.iter_lines()
            assert next(arriving).startswith("data: ")
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0


def test_the_key_may_come_from_the_environment(model_path: Path) -> None:
    with serving(model_path, RWKV_API_KEY="s3cret") as (_, ready):
        url = f"http://127.0.0.1:{ready['port']}/v1/models"
        assert httpx.get(url, timeout=TIMEOUT_S).status_code == 401
        assert (
            httpx.get(url, headers={"Authorization": "Bearer s3cret"}, timeout=TIMEOUT_S).status_code == 200
        )


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer", "serve", *argv],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_a_busy_port_is_said_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--model", "no-such-file.pth", "--port", str(port))
    assert done.returncode == 1
    assert "error[port_busy]" in done.stderr
    assert str(port) in done.stderr


def test_a_missing_model() -> None:
    done = run("--model", "no-such-file.pth", "--port", "0")
    assert done.returncode == 2
    assert "error[model_not_found]" in done.stderr


@pytest.mark.parametrize("flags", [("--port", "70000"), ("--slots", "0"), ("--precision", "int8")])
def test_bad_flags(flags: tuple[str, ...]) -> None:
    done = run("--model", "m.pth", *flags)
    assert done.returncode == 2
    assert done.stdout == ""
    assert flags[0] in done.stderr


def test_events_are_json_lines_behind_a_record_separator(model_path: Path) -> None:
    with serving(model_path) as (process, ready):
        assert ready.seq >= 1  # behind what was told of loading
        process.kill()
        assert json.loads(json.dumps(ready.fields))["port"] == ready["port"]


def test_requests_that_leave_sampling_open_get_the_servers_own(model_path: Path) -> None:
    defaults = json.dumps({"max_tokens": 3, "temperature": 0})
    with serving(model_path, "--defaults", defaults) as (_, ready):
        url = f"http://127.0.0.1:{ready['port']}/v1/completions"
        usages = [
            httpx.post(url, json={"prompt": "a", **own}, timeout=TIMEOUT_S).json()["usage"]
            for own in ({}, {"max_tokens": 2})
        ]
    assert [usage["completion_tokens"] for usage in usages] == [3, 2]


@pytest.mark.parametrize("given", ["3", "{", '{"temperature": 9}', '{"speed": 1}', "[]"])
def test_odd_defaults_are_refused(model_path: Path, given: str) -> None:
    argv = [sys.executable, "-m", "trainer", "serve", "--model", str(model_path), "--defaults", given]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert ended.returncode == 2
    assert "--defaults" in ended.stderr

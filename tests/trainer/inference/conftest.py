"""A small random model on disk, run by the real engines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from trainer.data.tokenizers import Tokenizer, load_tokenizer
from trainer.inference.engine import Engine, open_engine
from trainer.inference.hosting import Server, bind
from trainer.inference.scheduler import Scheduler
from trainer.inference.server import Api, Served, create_app

WORLD_ROWS = 65536


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.pth"
    make_checkpoint(path, vocab=WORLD_ROWS)
    return path


@pytest.fixture(scope="session")
def engine(model_path: Path) -> Engine:
    return open_engine(model_path, device="cpu")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer(None, WORLD_ROWS)


@contextmanager
def _running(
    engine: Engine, tokenizer: Tokenizer, *, slots: int = 4, max_waiting: int = 8, **api: Any
) -> Iterator[httpx.Client]:
    """A real server on a free loopback port."""
    scheduler = Scheduler(engine, tokenizer, slots=slots, max_waiting=max_waiting)
    served = Served("tiny", engine.generation, engine.device, engine.vocab_size, 1)
    ready = threading.Event()
    with bind("127.0.0.1", 0) as sock:
        server = Server(create_app(Api(served, tokenizer, scheduler, **api)), ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            assert ready.wait(20)
            with httpx.Client(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
            scheduler.close()
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def running() -> Callable[..., AbstractContextManager[httpx.Client]]:
    """`running(engine, tokenizer, slots=, max_waiting=, api_key=)`: a real server, and a client of it."""
    return _running

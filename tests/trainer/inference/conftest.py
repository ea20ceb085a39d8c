"""A small random model on disk, run by the real engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.data.tokenizers import Tokenizer, load_tokenizer
from trainer.inference.engine import Engine, open_engine

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

"""Fixtures of the trainer's tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest


@lru_cache
def _load(name: str) -> Any:
    # Test folders are no packages (importmode=importlib), so a helper beside this file is loaded by path.
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the trainer remembers between runs out of the home folder of whoever tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("RUNNER_CACHE", raising=False)
        yield


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Any]:
    """`make_checkpoint(path, generation="7", n_layer=…, …)`: a file by torch.save, and what is in it."""
    return _load("checkpoints").make_checkpoint


@pytest.fixture(scope="session")
def checkpoint_tensors() -> Callable[..., Any]:
    """`checkpoint_tensors(generation="7", …) -> dict[str, torch.Tensor]`, in memory only."""
    return _load("checkpoints").checkpoint_tensors


@pytest.fixture(scope="session")
def make_adapter() -> Callable[..., Any]:
    """`make_adapter(path, base_path, r=4, alpha=8.0, …)`: a LoRA of a checkpoint, and its tensors."""
    return _load("checkpoints").make_adapter

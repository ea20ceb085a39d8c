"""A seeded run learns the same, whatever computes its recurrence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from trainer.kernels import dispatch
from trainer.kernels.dispatch import OPERATIONS, choose
from trainer.kernels.native.build import COMPILERS


@contextmanager
def only(operation: str, form: str) -> Iterator[None]:
    """Nothing else may compute the operation."""
    known = OPERATIONS[operation]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OPERATIONS, operation, replace(known, backends={form: known.backends[form]}))
        dispatch._choose.cache_clear()
        yield
    dispatch._choose.cache_clear()


@pytest.mark.skipif(not any(map(which, COMPILERS)), reason="no C compiler here")
@pytest.mark.parametrize(("generation", "operation"), [("4", "wkv4"), ("6", "wkv56"), ("7", "wkv7")])
def test_loss_curves_agree(
    run_train: Callable[..., Any],
    make_checkpoint: Callable[..., Path],
    tmp_path: Path,
    generation: str,
    operation: str,
) -> None:
    base = tmp_path / "base.pth"
    make_checkpoint(base, generation=generation, n_layer=2, n_embd=32, vocab=65536, head_size=16, seed=3)
    curves = {}
    for form in ("native", "chunked"):
        with only(operation, form):
            assert choose(operation, "cpu")[0] == form
            curves[form] = run_train(form, base_model=str(base)).losses
    assert len(curves["native"]) >= 2
    assert curves["native"].keys() == curves["chunked"].keys()
    for step, loss in curves["native"].items():
        assert loss == pytest.approx(curves["chunked"][step], abs=1e-4)

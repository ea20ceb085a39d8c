from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.adapters.files import read_adapter
from trainer.adapters.leaves import by_module

ALL_MODULES = {
    f"blocks.{i}.{m}"
    for i in (0, 1)
    for m in ("att.receptance", "att.key", "att.value", "att.output", "ffn.key", "ffn.value")
}


@pytest.mark.parametrize("with_meta", [True, False])
def test_training_goes_on_with_all_that_an_adapter_holds(
    run_train: Callable[..., Any], tiny_base: Path, make_adapter: Any, tmp_path: Path, with_meta: bool
) -> None:
    """Its rank counts, not the form's, and what it holds beyond the chosen parts is not lost."""
    full = ("blocks.0.ln1.weight", "blocks.1.att.x_r")
    make_adapter(
        tmp_path / "a.pth", tiny_base, r=2, alpha=6.0, full=full, with_meta=with_meta, n_embd=32, seed=4
    )
    ran = run_train(
        lora_load=str(tmp_path / "a.pth"), lora_r=8, lora_alpha=4.0, lora_parts=("att",), epoch_count=1
    )
    assert ran.status == "completed", ran.error
    before, after = read_adapter(tmp_path / "a.pth"), read_adapter(ran.folder.checkpoints()[-1].adapter)
    assert after.meta is not None
    assert (after.meta.r, after.meta.alpha) == (2, 6.0 if with_meta else 4.0)
    assert set(by_module(after.tensors)) == ALL_MODULES
    assert set(before.tensors) == set(after.tensors)
    moved = {
        name: float((after.tensors[name].float() - before.tensors[name].float()).abs().max())
        for name in after.tensors
    }
    # Every tensor went on from where it was, and each moved: the rate is at most 0.01 a step.
    assert all(0 < distance < 0.02 * ran.step for distance in moved.values()), moved
    warned = [event["code"] for event in ran.of("warning")]
    assert ("adapter_alpha_differs" in warned) == with_meta


def test_a_new_adapter_starts_from_the_base_and_from_the_seed(run_train: Callable[..., Any]) -> None:
    first, again = (run_train(name, epoch_count=1, seed=7) for name in ("one", "two"))
    other = run_train("three", epoch_count=1, seed=8)
    tensors = [read_adapter(ran.folder.checkpoints()[-1].adapter).tensors for ran in (first, again, other)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    name = "blocks.0.att.key.lora_A"
    assert not torch.equal(tensors[0][name], tensors[2][name])

"""What is handed to fla-core, with its interface played by the float64 reference: the package needs a GPU."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.kernels.dispatch import max_error
from trainer.kernels.gpu import fla_core
from trainer.kernels.gpu.fla_core import wkv7_fla
from trainer.kernels.native.build import NativeUnavailableError
from trainer.kernels.samples import sample_wkv7
from trainer.kernels.wkv7 import wkv7_reference


def played(
    r: Tensor, w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, *,
    initial_state: Tensor, output_final_state: bool, cu_seqlens: Tensor, lower_bound: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`chunk_rwkv7` as fla-core 0.6 documents it: sequences one after the other in one row, states [K, V]."""
    assert r.shape[0] == 1
    assert output_final_state
    assert bool((w >= lower_bound).all())
    ys, finals = [], []
    for number, (begin, end) in enumerate(pairwise(cu_seqlens.tolist())):
        piece: list[Any] = [x[:, begin:end] for x in (r, w, k, v, a, b)]
        y, final = wkv7_reference(*piece, initial_state[number : number + 1].mT)
        ys.append(y)
        finals.append(final.mT)
    return torch.cat(ys, 1), torch.cat(finals)


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fla_core, "_runs_on", lambda device: True)
    monkeypatch.setattr(fla_core, "_operation", lambda: played)


def test_documents_states_and_gradients(on_the_cpu: None) -> None:
    assert max_error("wkv7", wkv7_fla) < 3e-6


def test_without_resets_and_without_a_state(on_the_cpu: None) -> None:
    inputs: list[Any] = [x.float() for x in sample_wkv7(3, 21, 2, 16)[0]]
    for got, expected in zip(wkv7_fla(*inputs), wkv7_reference(*inputs), strict=True):
        torch.testing.assert_close(got, expected)


def test_not_on_a_cpu() -> None:
    inputs: list[Any] = sample_wkv7(1, 16, 1, 8)[0]
    with pytest.raises(NativeUnavailableError, match="the tensors are on cpu"):
        wkv7_fla(*inputs)

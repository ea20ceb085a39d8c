"""Choosing among forms for GPUs, where there is none and where the compiler fails."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from trainer.kernels import dispatch
from trainer.kernels.dispatch import OPERATIONS, TOLERANCE_16_BIT, choose, max_error
from trainer.kernels.gpu import forms
from trainer.kernels.native.build import NativeUnavailableError

NEEDS_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.mark.parametrize("operation", ["wkv4", "wkv56", "wkv7"])
def test_no_gpu_no_triton(operation: str) -> None:
    inputs, state = OPERATIONS[operation].sample(1, 16, 1, 8)
    with pytest.raises(NativeUnavailableError, match="the tensors are on cpu"):
        OPERATIONS[operation].backends["triton"](*inputs, state)


def test_triton_that_is_absent_is_told_once(
    interpreted: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forms, "find_spec", lambda name: None)
    forms._triton.cache_clear()
    inputs: list[Any] = OPERATIONS["wkv7"].sample(1, 16, 1, 8)[0]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(NativeUnavailableError, match="triton is not installed"):
                forms.wkv7_triton(*inputs)
    assert caplog.messages == ["recurrences run in PyTorch, slower than in Triton: triton is not installed"]
    forms._triton.cache_clear()


def test_a_compiler_that_fails_is_named_and_passed_over(
    interpreted: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler() -> None:
        raise RuntimeError("gcc: not found")

    monkeypatch.setattr(forms, "_triton", no_compiler)
    dispatch._choose.cache_clear()
    name, _ = choose("wkv7", "cpu")
    dispatch._choose.cache_clear()
    assert name in ("native", "chunked")
    assert any("gcc: not found" in message for message in caplog.messages)


@NEEDS_TRITON
@pytest.mark.parametrize("operation", ["wkv4", "wkv56", "wkv7"])
def test_16_bits(interpreted: None, operation: str) -> None:
    """In a GPU's TF32 it is somewhat less exact; what is played here rounds inputs and outputs only."""
    error = max_error(operation, OPERATIONS[operation].backends["triton"], dtype=torch.bfloat16)
    assert 1e-4 < error < TOLERANCE_16_BIT

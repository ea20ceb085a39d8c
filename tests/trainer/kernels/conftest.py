"""Where Triton is installed, its kernels are played in NumPy, on the CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

from trainer.kernels.gpu import forms

# Triton looks at it when a kernel is defined, so before anything imports one.
if find_spec("triton") is not None:
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels run on the CPU; nothing but tests would want that."""
    monkeypatch.setattr(forms, "_runs_on", lambda device: True)

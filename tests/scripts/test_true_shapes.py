"""The smallest published shape; the others are looked at by hand, as they take minutes."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.timeout(600)
def test_the_true_shape_of_0_1b_is_inspected_estimated_and_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    assert importlib.import_module("true_shapes").main(["0.1b", "--steps=2"]) == 0
    assert "191,084,544 parameters" in capsys.readouterr().out

"""The page of parameters is the table's, word for word."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from trainer.contract.params import PARAMS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def generate_docs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("generate_docs")


def test_the_committed_page_is_what_the_table_makes(generate_docs: ModuleType) -> None:
    assert (ROOT / "docs" / "parameters.md").read_text("utf-8") == generate_docs.page()


def test_every_parameter_has_one_row_in_both_languages(generate_docs: ModuleType) -> None:
    rows = [line for line in generate_docs.page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(PARAMS)
    assert {row.count(" | ") for row in rows} == {4}
    assert rows[list(PARAMS).index("ctx_len")].split(" | ")[:4] == [
        "| `ctx_len`",
        "Context length<br>上下文长度<br>*basic*",
        "`1024`",
        "16 to 1048576 tokens<br>advised: at most 4096",
    ]


@pytest.mark.parametrize(
    ("name", "default", "values"),
    [
        ("lr_init", "`5e-5`", "above 0 to 1<br>advised: at most 1e-4"),
        ("beta1", "`0.9`", "0 to below 1"),
        ("lora_alpha", "`192`", "above 0 to 65536"),
        ("grad_cp", "on", "on, off"),
        ("data", "*required*", "path"),
        ("vocab", "—", "path"),
        ("loss_mask", "`all`", "`all`, `assistant`"),
    ],
)
def test_bounds_and_defaults_in_words(
    generate_docs: ModuleType, name: str, default: str, values: str
) -> None:
    assert generate_docs.default(PARAMS[name]) == default
    assert generate_docs.values(PARAMS[name]) == values

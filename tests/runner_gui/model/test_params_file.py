from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner_gui.model import params_file
from runner_gui.model.form import FormState
from trainer.contract.errors import AppError
from trainer.contract.params import PARAMS


def values(**changed: Any) -> dict[str, Any]:
    return {**FormState().values, **changed}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    model = tmp_path / "模型 1.pth"
    model.write_bytes(b"x")
    given = values(base_model=str(model), ctx_len=272, lora_parts=("att",), sample_prompts=("a", "b"))
    path = tmp_path / "p.json"
    params_file.save(given, path)
    loaded = params_file.load(path)
    # Data was not chosen, so there is no path of it to take.
    assert loaded.values == {name: value for name, value in given.items() if name != "data"}
    assert loaded.left_out == ("data",)


def test_what_is_shared_has_no_paths_and_only_what_was_changed() -> None:
    text = params_file.as_text(values(base_model="/home/anna/m.pth", mix_data=("/x=1",), ctx_len=272))
    assert "anna" not in text
    assert params_file.from_text(text).values == {"ctx_len": 272}


def test_files_of_another_computer_and_unknown_names_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    stored = {"base_model": "C:\\m.pth", "ctx_len": 272, "lora_r": 8, "from_the_future": 1}
    path.write_text(json.dumps({"run_id": "x", "params": stored}), encoding="utf-8")
    loaded = params_file.load(path)
    assert loaded.values == {"ctx_len": 272, "lora_r": 8}
    assert loaded.left_out == ("base_model", "from_the_future")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ctx_len", "long"), ("ctx_len", True), ("ctx_len", 10**30), ("ctx_len", 1.5),
        ("lr_init", float("nan")),
        ("lr_init", float("inf")), ("lora_parts", "att"), ("lora_parts", ["tail"]), ("precision", "fp8"),
        ("precision", ["bf16"]), ("grad_cp", 1), ("sample_prompts", [1]), ("data", "a\0b"),
        ("base_model", None),
        ("data", "~nobody_by_this_name/x"), ("data", "x" * 5000),
    ],
)  # fmt: skip
def test_a_value_that_no_field_can_show_is_left_out(name: str, value: Any) -> None:
    loaded = params_file.from_text(json.dumps({"seed": 1, name: value}))
    assert loaded.values == {"seed": 1}
    assert loaded.left_out == (name,)


@pytest.mark.parametrize(
    "text", ["", "no", "[]", "{}", "3", '{"params": 3}', '{"x": 1}', "[" * 100_000, "\ud800"]
)
def test_what_is_no_parameters_is_refused(text: str) -> None:
    with pytest.raises(AppError) as caught:
        params_file.from_text(text)
    assert caught.value.code == "params_file_unreadable"


def test_a_missing_file_a_folder_and_a_huge_one_are_refused(tmp_path: Path) -> None:
    huge = tmp_path / "huge.json"
    huge.write_bytes(b" " * (params_file.MAX_BYTES + 1))
    for path in (tmp_path / "none.json", tmp_path, huge):
        with pytest.raises(AppError) as caught:
            params_file.load(path)
        assert caught.value.code == "params_file_unreadable"


def test_every_default_can_be_shared(tmp_path: Path) -> None:
    for name, param in PARAMS.items():
        if param.default is not None:
            text = json.dumps(
                {name: list(param.default) if isinstance(param.default, tuple) else param.default}
            )
            assert params_file.from_text(text).values == {name: param.default}

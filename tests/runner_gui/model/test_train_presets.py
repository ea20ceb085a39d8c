from __future__ import annotations

import pytest

from runner_gui.model.form import FormState
from runner_gui.model.train_presets import EFFORTS, KEPT, PURPOSES, preset_values

DEMO = {"base_model": "/demo.pth", "data": "/demo.jsonl", "ctx_len": 256, "lr_init": 2e-3}


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("effort", EFFORTS)
def test_every_preset_is_good_and_within_the_tutorials_advice(purpose: str, effort: str) -> None:
    form = FormState(preset_values(f"{purpose}.{effort}", DEMO))
    assert form.params() is not None
    assert form.problems == {}
    assert form.values["lora_alpha"] == 2 * form.values["lora_r"]


def test_more_time_means_more_passes_over_the_data() -> None:
    passes = [preset_values(f"novel.{effort}", {})["epoch_count"] for effort in EFFORTS]
    assert passes == sorted(set(passes))
    assert all(preset_values(f"novel.{effort}", {})["epoch_steps"] == 0 for effort in EFFORTS)


@pytest.mark.parametrize("name", ["", "demo", "novel", "novel.slow", "poem.quick", "a.b.c"])
def test_an_unknown_preset_is_the_demo(name: str) -> None:
    assert preset_values(name, DEMO) == DEMO


def test_a_preset_leaves_files_and_device_alone_and_what_it_sets_is_not_a_change() -> None:
    form = FormState(DEMO)
    for name, value in {"base_model": "/mine.pth", "precision": "fp32", "lora_r": 7}.items():
        form.set(name, value)
    form.load(preset_values("dialogue.quick", DEMO), KEPT)
    assert (form.values["base_model"], form.values["precision"]) == ("/mine.pth", "fp32")
    assert form.values["lora_r"] == EFFORTS["quick"]["lora_r"]
    changed = {name for name in form.values if form.is_changed(name)}
    assert changed == {"base_model", "precision"}
    form.reset("base_model")
    assert form.values["base_model"] == "/demo.pth"

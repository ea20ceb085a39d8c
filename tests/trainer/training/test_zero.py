"""Runs under DeepSpeed's ZeRO, in this process; what several processes do is in test_processes.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.adapters.files import read_adapter
from trainer.contract.errors import InputError
from trainer.contract.params import check, checked
from trainer.training.zero import load_deepspeed, stage

STAGES = ("deepspeed_stage_1", "deepspeed_stage_2_offload", "deepspeed_stage_3", "deepspeed_stage_3_offload")
Run = Callable[..., Any]
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)
# DeepSpeed, Lightning and PyTorch warn of one another's ways of doing things.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_stage_is_in_the_name_of_the_strategy() -> None:
    values = {"base_model": "b", "data": "d"}
    names = ("auto", "ddp", "deepspeed_stage_1", "deepspeed_stage_2_offload", "deepspeed_stage_3")
    assert [stage(checked({**values, "strategy": name})) for name in names] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("strategy", "other"),
    [
        ("deepspeed_stage_1", {"infctx": True}),
        ("deepspeed_stage_2", {"precision": "fp16"}),
        ("deepspeed_stage_3", {"quant": "nf4"}),
    ],
)
def test_what_does_not_go_together_is_refused(strategy: str, other: dict[str, Any]) -> None:
    _, (problem, *_) = check({"base_model": "b", "data": "d", "strategy": strategy, **other})
    assert (problem.code, problem.param) == ("param_conflict", next(iter(other)))
    assert strategy in problem.sentence()


def test_without_deepspeed_it_says_what_to_install(run_train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(InputError, match=r"rwkv-lora-runner\[deepspeed\]"):
        load_deepspeed("cpu")
    ran = run_train(strategy="deepspeed_stage_2")
    assert ran.error.code == "deepspeed_missing"
    assert not ran.folder.run_json.exists()


@needs_deepspeed
@pytest.mark.parametrize("strategy", STAGES)
def test_stopped_and_resumed_it_equals_a_run_without_it_and_saves_the_same(
    strategy: str, run_train: Run
) -> None:
    values = {"lora_dropout": 0.2, "epoch_count": 2, "grad_clip": 0.5}
    straight = run_train("straight", **values)
    first = run_train("broken", at={2: {"cmd": "stop", "save": True}}, strategy=strategy, **values)
    assert (first.error, first.status, first.step) == (None, "stopped", 2)
    last = run_train("broken", resume=True)
    assert (last.error, last.status) == (None, "completed")
    assert last.losses == pytest.approx(straight.losses, abs=1e-5)
    a, b = (torch.load(r.folder.checkpoints()[-1].path / "adapter.pth") for r in (straight, last))
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a if name != "lora_meta")
    a, b = (torch.load(r.folder.checkpoints()[-1].state)["optimizer"] for r in (straight, last))
    assert [group.keys() for group in a["param_groups"]] == [group.keys() for group in b["param_groups"]]
    assert a["state"].keys() == b["state"].keys()
    for index, moments in a["state"].items():
        assert float(moments["step"]) == float(b["state"][index]["step"])
        for key in ("exp_avg", "exp_avg_sq"):
            assert torch.allclose(moments[key], b["state"][index][key], atol=1e-7), (index, key)


@needs_deepspeed
@pytest.mark.parametrize("method", ["full", "dora", "pissa", "miss", "state"])
def test_every_method_trains_evaluates_and_answers_with_its_weights_in_parts(
    method: str, run_train: Run, tiny_base: Path
) -> None:
    values = {"method": method, "lora_dropout": 0.0, "val_fraction": 0.2, "epoch_count": 1, "lr_init": 1e-3,
              "sample_prompts": ["User: the sea\n\nAssistant:"], "sample_tokens": 3}  # fmt: skip
    alone = run_train("alone", **values)
    parts = run_train("parts", strategy="deepspeed_stage_3", **values)
    assert (alone.error, parts.error) == (None, None)
    assert parts.losses == pytest.approx(alone.losses, abs=1e-5)
    for kind, field in (("eval", "loss"), ("sample", "text")):
        told, expected = ([e[field] for e in ran.of(kind)] for ran in (parts, alone))
        assert told == (pytest.approx(expected, abs=1e-5) if kind == "eval" else expected)
    a, b = (read_adapter(ran.folder.checkpoints()[-1].adapter).tensors for ran in (alone, parts))
    assert a.keys() == b.keys()
    assert all(a[name].shape == b[name].shape for name in a)
    assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in a)


@needs_deepspeed
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_in_parts_are_gathered_again_where_activations_are_computed_again(
    precision: str, run_train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.training.device.bf16_speedup", lambda: 10.0)
    monkeypatch.setattr("trainer.training.zero._WHOLE_BELOW", 0)
    values = {"grad_cp": True, "lora_dropout": 0.0, "epoch_count": 1, "precision": precision}
    for policy in ("full", "selective"):
        monkeypatch.setattr("trainer.training.assembly.choose_policy", lambda *_, policy=policy: policy)
        alone = run_train(f"alone-{policy}", **values)
        parts = run_train(f"parts-{policy}", strategy="deepspeed_stage_3", **values)
        assert parts.error is None
        assert parts.losses == pytest.approx(alone.losses, abs=1e-5 if precision == "fp32" else 2e-2)

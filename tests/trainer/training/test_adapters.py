"""Every method and every generation, from training over resume and merge to the package `rwkv`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.adapters.attach import attach_adapter
from trainer.adapters.files import AdapterFile, open_adapter, read_adapter
from trainer.adapters.merge import merge
from trainer.contract.adapter_meta import META_KEY
from trainer.contract.errors import InputError
from trainer.models.loading import load_model
from trainer.models.quantised import QuantisedWeight
from trainer.models.skeleton import RWKV

TOKENS = torch.arange(100, 140)[None]
PARTS = ("att", "ffn", "time", "ln")


@pytest.fixture
def bases(make_checkpoint: Callable[..., Any], tmp_path: Path) -> Callable[[str], Path]:
    def make(generation: str) -> Path:
        path = tmp_path / f"base-{generation}.pth"
        make_checkpoint(
            path, generation, n_layer=2, n_embd=32, vocab=65536, head_size=16, seed=3, dtype="fp32"
        )
        return path

    return make


def hidden(model: RWKV) -> Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS)[0]


def trained_model(base: Path, adapter: Path, quant: Any = None) -> RWKV:
    model = load_model(base, quant=quant)
    attach_adapter(model, read_adapter(adapter))
    return model


def last(ran: Any) -> Path:
    return ran.folder.checkpoints()[-1].adapter


# Every pair merges to what base and adapter say: tests/trainer/adapters/test_merge_kinds.py.
@pytest.mark.parametrize(
    ("generation", "method"),
    [("4", "lora"), ("5.0", "dora"), ("5.1", "pissa"), ("5.2", "miss"), ("6", "dora"), ("7", "lora")],
)
def test_train_then_merge_then_the_package_says_the_same(
    run_train: Callable[..., Any], bases: Any, tmp_path: Path, method: str, generation: str
) -> None:
    base = bases(generation)
    ran = run_train(base_model=str(base), method=method, lora_parts=PARTS, epoch_count=1, weight_decay=0.1)
    assert ran.status == "completed", ran.error
    assert ran.losses[ran.step] < ran.losses[1]
    opened = open_adapter(last(ran))
    assert opened.method == method
    report = merge(base, last(ran), tmp_path / "merged.pth")
    assert report.warnings == ()
    assert report.changed > 10
    assert report.logits is not None
    assert report.logits.package < 1e-4
    assert report.logits.base_and_adapter < 1e-4
    merged = hidden(load_model(tmp_path / "merged.pth"))
    assert not torch.allclose(merged, hidden(load_model(base)), atol=1e-2)  # not just the base again


@pytest.mark.parametrize(
    ("generation", "method", "quant"),
    [
        ("4", "dora", "none"), ("5.2", "pissa", "nf4"), ("6", "miss", "none"), ("7", "state", "none"),
        ("7", "dora", "int8"),
    ],
)  # fmt: skip
def test_a_resumed_run_repeats_the_undisturbed_one(
    run_train: Callable[..., Any], bases: Any, generation: str, method: str, quant: str
) -> None:
    values = {"base_model": str(bases(generation)), "method": method, "quant": quant, "lora_dropout": 0.1}
    whole = run_train("whole", **values)
    cut = run_train("cut", at={2: {"cmd": "stop", "id": 1}}, **values)
    assert (cut.status, cut.step) == ("stopped", 2), cut.error
    cut = run_train("cut", resume=True)
    assert (cut.status, cut.step) == ("completed", whole.step), cut.error
    assert cut.losses == whole.losses
    one, other = read_adapter(last(whole)), read_adapter(last(cut))
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())
    assert one.meta is not None
    assert other.meta is not None
    assert one.meta.model_copy(update={"run_id": ""}) == other.meta.model_copy(update={"run_id": ""})


def foreign_merge(base: Path, adapter: Path, alpha: float) -> dict[str, Tensor]:
    """What mergers of other RWKV trainers do: W + alpha / r · B A, other tensors over the base's."""
    merged, found = (torch.load(path, weights_only=True) for path in (base, adapter))
    for name in list(merged):
        module = name.removesuffix(".weight")
        if f"{module}.lora_A" in found:
            A, B = found[f"{module}.lora_A"], found[f"{module}.lora_B"]
            merged[name] = merged[name] + B @ A * (alpha / B.shape[1])
    return merged | {name: tensor for name, tensor in found.items() if "lora" not in name}


@pytest.mark.parametrize("values", [{"method": "pissa"}, {"lora_rs": True}])
def test_a_merger_that_knows_lora_alone_gives_the_trained_model(
    run_train: Callable[..., Any], bases: Any, tmp_path: Path, values: dict[str, Any]
) -> None:
    """Onto the original base, with the r of the file and the alpha that the sidecar tells."""
    base = bases("7")
    ran = run_train(base_model=str(base), lora_r=9, lora_alpha=12.0, **values)
    assert ran.status == "completed", ran.error
    told = json.loads(last(ran).with_suffix(".json").read_text())
    torch.save(foreign_merge(base, last(ran), told["alpha"]), tmp_path / "foreign.pth")
    trained, merged = trained_model(base, last(ran)), load_model(tmp_path / "foreign.pth")
    torch.testing.assert_close(hidden(merged), hidden(trained), rtol=0, atol=2e-4)
    assert not torch.allclose(hidden(merged), hidden(load_model(base)), atol=1e-2)
    if "lora_rs" in values:
        assert told["alpha"] == pytest.approx(12.0 * 3)  # 36 / 9 = 12 / √9
    else:
        assert (told["r"], told["alpha"]) == (18, 18.0)


def test_full_parts_are_saved_whole(run_train: Callable[..., Any], bases: Any, tmp_path: Path) -> None:
    base = bases("6")
    parts = ("time", "ln", "emb", "head")
    ran = run_train(base_model=str(base), lora_parts=parts)
    assert ran.status == "completed", ran.error
    found, weights = read_adapter(last(ran)), torch.load(base, weights_only=True)
    assert found.meta is not None
    assert (found.meta.r, found.meta.alpha) == (None, None)
    assert {"emb.weight", "head.weight", "blocks.1.att.time_decay", "blocks.0.ln0.bias"} <= set(found.tensors)
    for name, tensor in found.tensors.items():
        assert tensor.shape == weights[name].shape
        assert not torch.equal(tensor, weights[name]), name
    report = merge(base, last(ran), tmp_path / "merged.pth")
    assert report.changed == len(found.tensors)
    assert report.logits is not None
    torch.testing.assert_close(
        hidden(load_model(tmp_path / "merged.pth")), hidden(trained_model(base, last(ran))), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("generation", ["5.0", "6", "7"])
def test_a_tuned_state_is_a_file_for_runner_and_starts_every_document(
    run_train: Callable[..., Any], bases: Any, tmp_path: Path, generation: str
) -> None:
    base = bases(generation)
    ran = run_train(base_model=str(base), method="state", lr_init=0.1, lr_final=0.1, val_fraction=0.2)
    assert ran.status == "completed", ran.error
    assert ran.losses[ran.step] < ran.losses[1]
    content = torch.load(last(ran), weights_only=True)
    assert list(content) == ["blocks.0.att.time_state", "blocks.1.att.time_state"]  # and nothing else
    assert META_KEY not in content
    assert {tuple(state.shape) for state in content.values()} == {(2, 16, 16)}
    assert all(float(state.abs().max()) > 0.05 for state in content.values())
    assert open_adapter(last(ran)).method == "state"
    trained, bare = trained_model(base, last(ran)), load_model(base)
    # The same as a document that goes on from that state, in the layout of each generation's own states.
    start = bare(TOKENS[:, :1])[1]
    for layer, carried in enumerate(start):
        state = content[f"blocks.{layer}.att.time_state"][None]
        carried.wkv = state if generation == "7" else state.mT
        carried.att_x, carried.ffn_x = carried.att_x * 0, carried.ffn_x * 0
    with torch.no_grad():
        torch.testing.assert_close(hidden(trained), bare(TOKENS, start)[0], rtol=0, atol=1e-6)
    assert not torch.allclose(hidden(trained), hidden(bare), atol=1e-2)
    if generation == "7":
        with pytest.raises(InputError) as caught:
            merge(base, last(ran), tmp_path / "merged.pth")
        assert caught.value.code == "merge_state"
        return
    report = merge(base, last(ran), tmp_path / "merged.pth")
    assert report.changed == 2
    assert report.logits is not None  # the package starts from the same state
    assert report.logits.package < 1e-4
    assert torch.equal(hidden(load_model(tmp_path / "merged.pth")), hidden(trained))


def test_a_4_has_no_states(run_train: Callable[..., Any], bases: Any) -> None:
    ran = run_train(base_model=str(bases("4")), method="state")
    assert ran.error is not None
    assert ran.error.code == "model_method"


@pytest.mark.parametrize(("generation", "quant"), [("6", "int8"), ("7", "nf4")])
def test_over_a_quantised_base_and_merged_onto_either(
    run_train: Callable[..., Any], bases: Any, tmp_path: Path, generation: str, quant: Any
) -> None:
    base = bases(generation)
    ran = run_train(base_model=str(base), quant=quant, lora_parts=PARTS)
    assert ran.status == "completed", ran.error
    found = open_adapter(last(ran))
    assert found.meta is not None
    assert found.meta.quant == quant
    weights = torch.load(base, weights_only=True)
    original = merge(base, last(ran), tmp_path / "original.pth", verify=False)
    assert [problem.code for problem in original.warnings] == ["adapter_base_quantised"]
    onto = merge(base, last(ran), tmp_path / "onto.pth", onto_quantised=True)
    assert (original.quant, onto.quant, onto.warnings) == (None, quant, ())
    assert onto.logits is not None
    assert onto.logits.package < 1e-4
    assert onto.logits.base_and_adapter < 1e-4
    for path, decoded in ((tmp_path / "original.pth", False), (tmp_path / "onto.pth", True)):
        merged = torch.load(path, weights_only=True)
        for name in ("blocks.0.att.key.weight", "blocks.1.ffn.value.weight"):
            W = QuantisedWeight(weights[name], quant).dense(torch.float32) if decoded else weights[name]
            wanted = W.double() + update(found, name)
            torch.testing.assert_close(merged[name].double(), wanted, rtol=0, atol=1e-6)
    # What was trained is the one over the quantised base.
    torch.testing.assert_close(
        hidden(load_model(tmp_path / "onto.pth")), hidden(trained_model(base, last(ran), quant)),
        rtol=0, atol=2e-4,
    )  # fmt: skip


def update(adapter: AdapterFile, name: str) -> Tensor:
    module = name.removesuffix(".weight")
    tensors = adapter.load().tensors
    A, B = (tensors[f"{module}.{leaf}"].double() for leaf in ("lora_A", "lora_B"))
    assert adapter.meta is not None
    assert adapter.meta.alpha is not None
    return adapter.meta.alpha / len(A) * B @ A


@pytest.mark.parametrize("method", ["dora", "pissa", "miss", "state"])
def test_training_goes_on_with_an_adapter_as_what_it_is(
    run_train: Callable[..., Any], bases: Any, method: str
) -> None:
    base = bases("7")
    first = run_train("first", base_model=str(base), method=method)
    second = run_train(
        "second", base_model=str(base), lora_load=str(last(first)), lora_r=7, lora_alpha=3.0, lr_init=1e-9,
        lr_final=1e-9, epoch_count=1,
    )  # fmt: skip
    assert second.status == "completed", second.error
    warned = {e["code"]: e["args"] for e in second.of("warning")}
    assert warned["adapter_method_differs"] == {"given": "lora", "recorded": method}
    before, after = read_adapter(last(first)), read_adapter(last(second))
    assert before.meta is not None
    assert after.meta is not None
    assert (after.meta.method, after.meta.r, after.meta.alpha) == (method, before.meta.r, before.meta.alpha)
    for name, tensor in before.tensors.items():
        torch.testing.assert_close(after.tensors[name], tensor, rtol=0, atol=1e-6)
    # It goes on from where it was: the first loss is as low as the last one's neighbourhood.
    assert second.losses[1] < first.losses[1]


def test_a_fully_trained_model_does_not_go_on_over_a_quantised_base(
    run_train: Callable[..., Any], bases: Any
) -> None:
    base = str(bases("7"))
    first = run_train("first", base_model=base, method="full", lr_init=1e-4, lr_final=1e-4, epoch_count=1)
    second = run_train("second", base_model=base, lora_load=str(last(first)), quant="nf4")
    assert second.error is not None
    assert (second.error.code, second.error.problem.param) == ("param_conflict", "quant")

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.adapters.attach import adapter_tensors, attach, attach_adapter, train_in_full
from trainer.adapters.files import read_adapter, write_adapter
from trainer.adapters.lora import LoraLinear
from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import InputError
from trainer.models.loading import load_model
from trainer.models.skeleton import RWKV, Linear

TOKENS = torch.arange(1, 25)[None]


@pytest.fixture
def base(tmp_path: Path, make_checkpoint: Callable[..., Any]) -> Path:
    path = tmp_path / "base.pth"
    make_checkpoint(path)
    return path


@pytest.fixture
def model(base: Path) -> RWKV:
    return load_model(base)


def lora_linear(dtype: torch.dtype, dropout: float = 0.0) -> LoraLinear:
    generator = torch.Generator().manual_seed(1)
    linear = Linear(7, 5)
    linear.weight.data = torch.randn(5, 7, generator=generator, dtype=torch.float64).to(dtype)
    lora = LoraLinear(linear, r=3, alpha=6.0, dropout=dropout)
    for parameter in (lora.lora_A, lora.lora_B):
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(
            parameter.dtype
        )
    return lora


def plain(lora: LoraLinear, x: Tensor) -> Tensor:
    return x @ lora.weight.T + 2.0 * (x @ lora.lora_A.T) @ lora.lora_B.T


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 3, 7)])
@pytest.mark.parametrize("input_needs_gradient", [True, False])
def test_product_and_gradients_equal_the_plain_formula(
    shape: tuple[int, ...], input_needs_gradient: bool
) -> None:
    lora = lora_linear(torch.float64)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaves = [lora.lora_A, lora.lora_B]
    if input_needs_gradient:
        leaves.append(x.requires_grad_())
    got, expected = lora(x), plain(lora, x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
    weight = torch.cos(torch.arange(expected.numel(), dtype=torch.float64)).view(expected.shape)
    ours = torch.autograd.grad((got * weight).sum(), leaves)
    theirs = torch.autograd.grad((expected * weight).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_gradients_against_finite_differences() -> None:
    lora = lora_linear(torch.float64)
    x = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)

    def product(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        return torch.func.functional_call(lora, {"lora_A": A, "lora_B": B}, x)

    assert torch.autograd.gradcheck(product, (x, lora.lora_A, lora.lora_B))


def test_the_frozen_weight_gets_no_gradient_and_the_start_changes_nothing(model: RWKV) -> None:
    before = model(TOKENS)[0]
    weight = model.get_parameter("blocks.1.att.key.weight")
    attach(model, "lora", r=4, alpha=8.0, dropout=0.0, parts=("att", "ffn"))
    after = model(TOKENS)[0]
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)
    after.square().sum().backward()
    assert model.get_parameter("blocks.1.att.key.weight") is weight  # taken over, not copied
    for name, parameter in model.named_parameters():
        # Through B = 0 nothing reaches A yet; B learns first.
        assert (parameter.grad is not None) == ("lora_" in name), name
        assert name.endswith("lora_B") == (parameter.grad is not None and bool(parameter.grad.any())), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_over_a_16_bit_base_the_trained_tensors_are_fp32(base: Path, dtype: torch.dtype) -> None:
    model = load_model(base, dtype=dtype)
    attach(
        model,
        "lora",
        r=4,
        alpha=8.0,
        dropout=0.0,
        parts=("att", "ffn", "time", "time_lora", "ln", "emb", "head"),
    )
    types = {name: p.dtype for name, p in model.named_parameters()}
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {types[name] for name in trainable} == {torch.float32}
    assert {types[name] for name in set(types) - trainable} == {dtype}
    hidden, _ = model(TOKENS)
    assert hidden.dtype == dtype
    hidden.float().square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert {g.dtype for g in gradients.values()} == {torch.float32}
    assert {"emb.weight", "blocks.1.att.receptance.lora_B", "blocks.0.att.x_r"} <= set(gradients)


def test_a_step_smaller_than_bf16_resolves_is_kept() -> None:
    lora = lora_linear(torch.bfloat16)
    before = lora.lora_A.detach().clone()
    lora.lora_A.data += 1e-5
    assert float((lora.lora_A.detach() - before).abs().min()) > 5e-6


ATT = ("receptance", "key", "value", "output")
TIME = ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a", "r_k")
EXPECTED = {
    "att": {f"blocks.{i}.att.{m}.lora_{x}" for i in (0, 1) for m in ATT for x in "AB"},
    "ffn": {f"blocks.{i}.ffn.{m}.lora_{x}" for i in (0, 1) for m in ("key", "value") for x in "AB"},
    "time": {f"blocks.{i}.att.{n}" for i in (0, 1) for n in TIME} | {f"blocks.{i}.ffn.x_k" for i in (0, 1)},
    "time_lora": {f"blocks.{i}.att.{n}{k}" for i in (0, 1) for n in "wavg" for k in "12"},
    "ln": {
        f"blocks.{norm}.{leaf}"
        for norm in ("0.ln0", "0.ln1", "0.ln2", "0.att.ln_x", "1.ln1", "1.ln2", "1.att.ln_x")
        for leaf in ("weight", "bias")
    },
    "emb": {"emb.weight"},
    "head": {"head.weight"},
}  # fmt: skip


@pytest.mark.parametrize(
    "parts", [*((part,) for part in EXPECTED), ("att", "ffn", "time", "ln"), tuple(EXPECTED)]
)
def test_parts_select_exactly_their_tensors(model: RWKV, parts: tuple[str, ...]) -> None:
    attach(model, "lora", r=4, alpha=8.0, dropout=0.0, parts=parts)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == set().union(*(EXPECTED[part] for part in parts))
    assert set(adapter_tensors(model)) == trainable


def test_all_parts_are_everything_but_ln_out(model: RWKV) -> None:
    names = {name for name, _ in model.named_parameters()}
    projections = {
        name for name in names if re.search(r"(att\.(receptance|key|value|output)|ffn\.(key|value))\.w", name)
    }
    full = set().union(*EXPECTED.values()) - EXPECTED["att"] - EXPECTED["ffn"]
    assert names - projections - full == {"ln_out.weight", "ln_out.bias"}


MIXES = {"4": "kvr", "5.0": "kvr", "5.1": "kvrg", "5.2": "kvrg", "6": "xwkvrg"}
BONUS = {"4": "first", "5.0": "first", "5.1": "first", "5.2": "faaaa", "6": "faaaa"}


@pytest.mark.parametrize("generation", MIXES)
def test_parts_of_the_older_generations(
    tmp_path: Path, make_checkpoint: Callable[..., Any], generation: str
) -> None:
    written = make_checkpoint(tmp_path / "old.pth", generation)
    mix = "maa" if generation == "6" else "mix"
    gated = generation not in ("4", "5.0")
    att = ("receptance", "key", "value", "output", *(("gate",) if gated else ()))
    ffn = ("receptance", "key", "value")
    time = {f"att.time_{mix}_{name}" for name in MIXES[generation]}
    time |= {"att.time_decay", f"att.time_{BONUS[generation]}", f"ffn.time_{mix}_k", f"ffn.time_{mix}_r"}
    low = {f"att.time_{name}_w{i}" for name in ("maa", "decay") for i in (1, 2)}
    expected = {
        "att": {f"blocks.{i}.att.{m}.lora_{x}" for i in (0, 1) for m in att for x in "AB"},
        "ffn": {f"blocks.{i}.ffn.{m}.lora_{x}" for i in (0, 1) for m in ffn for x in "AB"},
        "time": {f"blocks.{i}.{name}" for i in (0, 1) for name in time},
        "time_lora": {f"blocks.{i}.{name}" for i in (0, 1) for name in low if generation == "6"},
        "ln": {name for name in EXPECTED["ln"] if generation != "4" or "ln_x" not in name},
        "emb": EXPECTED["emb"],
        "head": EXPECTED["head"],
    }
    for parts in [*((part,) for part in expected), tuple(expected)]:
        model = load_model(tmp_path / "old.pth")
        attach(model, "lora", r=4, alpha=8.0, dropout=0.0, parts=parts)
        assert set(adapter_tensors(model)) == set().union(*(expected[part] for part in parts)), parts
    adapted = {name.rpartition(".")[0] + ".weight" for name in expected["att"] | expected["ffn"]}
    full = set().union(*(expected[part] for part in ("time", "time_lora", "ln", "emb", "head")))
    assert set(written) - adapted - full == {"ln_out.weight", "ln_out.bias"}


def test_full_training_frees_everything(base: Path) -> None:
    model = load_model(base, dtype=torch.bfloat16)
    attach(model, "full")
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())
    assert set(adapter_tensors(model)) == {name for name, _ in model.named_parameters()}


def test_adapter_tensors_are_copies(model: RWKV) -> None:
    train_in_full(model.ln_out.weight)
    saved = adapter_tensors(model)
    before = saved["ln_out.weight"].clone()
    with torch.no_grad():
        model.ln_out.weight.add_(1.0)
    assert torch.equal(saved["ln_out.weight"], before)


def meta(r: int, alpha: float) -> AdapterMeta:
    return AdapterMeta(
        method="lora", r=r, alpha=alpha, generation="7", n_layer=2, n_embd=64, base_name="base.pth",
        base_bytes=1, base_sha256="0", run_id="run", step=1, epoch=1, tokens=1, trainer="test",
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_through_a_file(base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    first = load_model(base, dtype=dtype)
    attach(first, "lora", r=4, alpha=8.0, dropout=0.0, parts=("att", "ffn", "time", "ln", "head"))
    with torch.no_grad():
        for parameter in first.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    write_adapter(tmp_path / "a.pth", adapter_tensors(first), meta(4, 8.0))
    second = load_model(base, dtype=dtype)
    bare = second(TOKENS)[0]
    attach_adapter(second, read_adapter(tmp_path / "a.pth"), alpha=999.0)  # the file's own alpha counts
    for name, parameter in first.named_parameters():
        assert torch.equal(second.get_parameter(name), parameter), name
        assert second.get_parameter(name).dtype == parameter.dtype, name
    with torch.no_grad():
        ours = first.logits(first(TOKENS)[0])
        assert torch.equal(second.logits(second(TOKENS)[0]), ours)
        assert not torch.equal(second(TOKENS)[0], bare)


def test_onto_a_model_that_has_lora_already(
    base: Path, model: RWKV, tmp_path: Path, make_adapter: Any
) -> None:
    tensors = make_adapter(tmp_path / "a.pth", base, r=4, alpha=8.0)
    attach(model, "lora", r=4, alpha=8.0, dropout=0.1, parts=("att", "ffn", "time", "ln"))
    attach_adapter(model, read_adapter(tmp_path / "a.pth"))
    for name, tensor in tensors.items():
        assert torch.equal(model.get_parameter(name).detach(), tensor), name
    module = model.get_submodule("blocks.0.att.key")
    assert isinstance(module, LoraLinear)
    assert (module.dropout, module.scale) == (0.1, 2.0)  # not replaced


def test_a_file_without_metadata_needs_an_alpha(base: Path, tmp_path: Path, make_adapter: Any) -> None:
    make_adapter(tmp_path / "a.pth", base, r=4, with_meta=False)
    adapter = read_adapter(tmp_path / "a.pth")
    with pytest.raises(InputError) as error:
        attach_adapter(load_model(base), adapter)
    assert error.value.code == "adapter_alpha_unknown"
    assert error.value.problem.args == {"path": str(tmp_path / "a.pth"), "r": 4}
    model = load_model(base)
    attach_adapter(model, adapter, alpha=2.0)
    module = model.get_submodule("blocks.1.ffn.value")
    assert isinstance(module, LoraLinear)
    assert module.scale == 0.5
    assert torch.equal(module.lora_B.detach(), adapter.tensors["blocks.1.ffn.value.lora_B"].float())


def test_dropout_is_on_the_way_to_A_and_in_training_only() -> None:
    lora = lora_linear(torch.float64, dropout=0.5)
    x = torch.ones(20_000, 7, dtype=torch.float64)
    exact = plain(lora, x[:1]).detach()
    lora.eval()
    torch.testing.assert_close(lora(x[:1]), exact, rtol=0, atol=1e-13)
    lora.train()
    torch.manual_seed(0)
    y = lora(x).detach()
    assert float((y - exact).abs().max()) > 0.1
    # Dropout keeps the mean; the frozen product is not dropped.
    spread = y.std(0) / math.sqrt(len(x))
    assert bool(((y.mean(0) - exact).abs() < 5 * spread).all())
    lora.lora_B.data.zero_()
    torch.testing.assert_close(lora(x[:1]), x[:1] @ lora.weight.T, rtol=0, atol=1e-13)
    lora.lora_B.data.fill_(1.0)
    values = {round(v, 6) for v in (lora(x) - x @ lora.weight.T)[:, 0].tolist()}
    assert len(values) <= 2**7  # every subset of the seven inputs, doubled


def test_dropout_gradients_are_those_of_the_inputs_that_passed() -> None:
    lora = lora_linear(torch.float64, dropout=0.5).train()
    x = torch.ones(1, 7, dtype=torch.float64)
    torch.manual_seed(4)
    lora(x).sum().backward()
    assert lora.lora_A.grad is not None
    passed = (lora.lora_A.grad != 0).all(0)
    torch.manual_seed(4)
    mask = torch.nn.functional.dropout(x, 0.5)[0] != 0
    assert torch.equal(passed, mask)
    assert 0 < int(mask.sum()) < 7
    assert lora.weight.grad is None

"""Every kind of adapter on one projection: product, gradients, start, and the weight that a merge writes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainer.adapters.adapted import Adapted
from trainer.adapters.attach import METHODS
from trainer.adapters.dora import DoraLinear
from trainer.adapters.lora import LoraLinear
from trainer.adapters.pissa import PissaLinear
from trainer.models.quantised import QuantisedLinear, QuantisedWeight, dense
from trainer.models.skeleton import Linear

TRAINED = ("lora", "dora", "pissa", "miss")
R, ALPHA = 3, 6.0
# 7 inputs: MiSS's last block of three is filled up. 100: a quantised row's last block of 64 is.
SHAPES = [(5, 7), (12, 100)]


def projection(d_out: int, d_in: int, dtype: torch.dtype = torch.float64) -> Linear:
    linear = Linear(d_in, d_out)
    weight = torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    linear.weight.data = weight.to(dtype)
    return linear


def trained(method: str, base: Linear | QuantisedLinear, seed: int = 2) -> Adapted:
    """An adapted projection some steps away from its start."""
    torch.manual_seed(seed)
    adapted = METHODS[method](base, R, ALPHA, 0.0)  # type: ignore[call-arg]
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if name != "weight":
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return adapted


def effective(method: str, W: Tensor, leaves: dict[str, Tensor]) -> Tensor:
    """The weight of an adapted projection in float64, by the formulas of the papers."""
    W, leaves = W.double(), {name: leaf.double() for name, leaf in leaves.items()}
    if method == "miss":
        D, merged = leaves["disha"], W.clone()
        for first in range(0, W.shape[1], R):
            block = merged[:, first : first + R]
            block += D.T[:, : block.shape[1]]
        return merged
    scale = 1.0 if method == "pissa" else ALPHA / R
    V = W + scale * leaves["lora_B"] @ leaves["lora_A"]
    return V if method != "dora" else leaves["lora_M"][:, None] * V / V.norm(dim=1, keepdim=True)


def input_of(adapted: Adapted, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(*shape, adapted.weight.shape[1], generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", TRAINED)
def test_the_product_is_that_of_the_papers_weight(method: str, shape: tuple[int, int]) -> None:
    adapted = trained(method, projection(*shape))
    x = input_of(adapted, 2, 4)
    W = effective(method, dense(adapted.weight, torch.float64), adapted.leaves())
    torch.testing.assert_close(adapted(x), x @ W.T, rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("quant", ["nf4", "int8"])
@pytest.mark.parametrize("method", TRAINED)
def test_over_a_quantised_weight_too(method: str, quant: str, shape: tuple[int, int]) -> None:
    frozen = QuantisedWeight(projection(*shape).weight, quant)  # type: ignore[arg-type]
    adapted = trained(method, QuantisedLinear(frozen))
    x = input_of(adapted, 3).float().requires_grad_()
    W = effective(method, frozen.dense(torch.float64), adapted.leaves())
    torch.testing.assert_close(adapted(x).double(), x.double() @ W.T, rtol=0, atol=2e-5)
    (gradient,) = torch.autograd.grad(adapted(x).sum(), x)
    torch.testing.assert_close(gradient.double(), W.sum(0).expand_as(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("method", [name for name in TRAINED if name != "dora"])
def test_gradients_against_finite_differences(method: str) -> None:
    adapted = trained(method, projection(5, 7))
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert "weight" not in names

    def product(x: Tensor, *leaves: Tensor) -> Tensor:
        return torch.func.functional_call(adapted, dict(zip(names, leaves, strict=True)), x)

    x = input_of(adapted, 2).requires_grad_()
    assert torch.autograd.gradcheck(product, (x, *(adapted.get_parameter(name) for name in names)))


def test_doras_gradients_are_those_of_a_norm_held_constant() -> None:
    adapted = trained("dora", projection(5, 7))
    assert isinstance(adapted, DoraLinear)
    norms = adapted.norms()
    x = input_of(adapted, 2)
    names = ("lora_A", "lora_B", "lora_M")
    leaves = [adapted.get_parameter(name) for name in names]
    A, B, M = leaves
    torch.testing.assert_close(norms, (adapted.weight + ALPHA / R * B @ A).norm(dim=1), rtol=1e-12, atol=0)
    ours = torch.autograd.grad(adapted(x).square().sum(), leaves)
    plain = (x @ (adapted.weight + ALPHA / R * B @ A).T) * (M / norms.detach())
    theirs = torch.autograd.grad(plain.square().sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", TRAINED)
def test_the_start_is_the_base_and_the_base_stays_frozen(method: str) -> None:
    linear = projection(12, 100, torch.float32)
    torch.manual_seed(0)
    adapted = METHODS[method](linear, R, ALPHA, 0.0)  # type: ignore[call-arg]
    assert adapted.weight is linear.weight
    x = input_of(adapted, 6).float()
    torch.testing.assert_close(adapted(x), x @ linear.weight.T, rtol=0, atol=1e-4)
    adapted(x).square().sum().backward()
    assert linear.weight.grad is None
    moved = [n for n, p in adapted.named_parameters() if p.grad is not None and bool(p.grad.any())]
    assert moved  # something learns from the first step on


@pytest.mark.parametrize("rows", [1, 5, 12])
@pytest.mark.parametrize("method", TRAINED)
def test_merged_rows_are_those_of_the_papers_weight(method: str, rows: int) -> None:
    adapted = trained(method, projection(12, 100))
    leaves = adapted.leaves()
    weight = dense(adapted.weight, torch.float64)
    as_saved = {name: leaf.float() for name, leaf in leaves.items()}
    kind: type[Adapted] = LoraLinear if method == "pissa" else type(adapted)
    merged = torch.cat(
        [
            kind.merged(weight[first : first + rows].float(), first, as_saved, adapted.alpha or 0.0)
            for first in range(0, 12, rows)
        ]
    )
    expected = effective(method, weight, leaves)
    torch.testing.assert_close(merged.double(), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("method", TRAINED)
def test_what_a_file_holds_comes_back_bit_by_bit(method: str) -> None:
    first = trained(method, projection(12, 100, torch.float32))
    second = trained(method, projection(12, 100, torch.float32), seed=9)
    x = input_of(first, 4).float()
    assert not torch.equal(first(x), second(x))
    second.load(first.leaves())
    assert torch.equal(first(x), second(x))
    again = second.leaves()
    assert all(torch.equal(leaf, again[name]) for name, leaf in first.leaves().items())


def test_pissa_starts_from_the_largest_singular_values() -> None:
    linear = projection(40, 100)
    U, S, V = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
    S *= 0.9 ** torch.arange(40)
    linear.weight.data = (U * S) @ V
    torch.manual_seed(0)
    pissa = PissaLinear(linear, R)
    best = (U[:, :R] * S[:R]) @ V[:R]
    error = (pissa.lora_B @ pissa.lora_A - best).norm() / best.norm()
    assert float(error.detach()) < 1e-3
    # The square root of each singular value on each side.
    torch.testing.assert_close(pissa.lora_A.norm(dim=1), pissa.lora_B.norm(dim=0), rtol=1e-6, atol=0)
    assert {name: tuple(leaf.shape) for name, leaf in pissa.leaves().items()} == {
        "lora_A": (2 * R, 100), "lora_B": (40, 2 * R),
    }  # fmt: skip
    assert pissa.alpha == 2 * R


@pytest.mark.parametrize("r", [5, 40])
def test_a_rank_beyond_the_weights_own_is_filled_with_zeros(r: int) -> None:
    linear = projection(5, 7)
    pissa = PissaLinear(linear, r)
    torch.testing.assert_close(pissa.lora_B @ pissa.lora_A, linear.weight, rtol=0, atol=1e-10)
    assert pissa.lora_A.shape == (r, 7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", TRAINED)
def test_over_a_16_bit_weight_the_leaves_are_fp32(method: str, dtype: torch.dtype) -> None:
    adapted = trained(method, projection(12, 100, dtype))
    x = input_of(adapted, 4).to(dtype)
    y = adapted(x)
    assert y.dtype == dtype
    y.float().sum().backward()
    grads = {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None}
    assert grads
    assert {g.dtype for g in grads.values()} == {torch.float32}
    W = effective(method, dense(adapted.weight, dtype), adapted.leaves())
    error = (y.detach().double() - x.double() @ W.T).norm() / (x.double() @ W.T).norm()
    assert float(error) < 0.02


def test_miss_keeps_sums_and_not_its_input() -> None:
    adapted = trained("miss", projection(12, 100))
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        adapted(input_of(adapted, 50).requires_grad_())
    assert [tuple(t.shape) for t in kept] == [(50, R), (R, 12)]


def test_dropout_is_lora_and_doras_alone() -> None:
    for method, dropped in (("lora", True), ("dora", True), ("pissa", False), ("miss", False)):
        torch.manual_seed(1)
        adapted = METHODS[method](projection(12, 100), R, ALPHA, 0.5).train()  # type: ignore[call-arg]
        with torch.no_grad():
            for parameter in adapted.parameters():
                parameter.add_(0.1)
        x = input_of(adapted, 4)
        assert torch.equal(adapted(x), adapted(x)) != dropped, method

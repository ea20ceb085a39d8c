from __future__ import annotations

import math

import pytest
import torch

from trainer.models.initial import initialise
from trainer.models.layouts import ModelSpec
from trainer.models.rwkv7 import RWKV7

SPEC = ModelSpec(
    generation="7", n_layer=3, n_embd=64, dim_att=64, dim_ffn=256, vocab_size=256, head_size=32, n_head=2,
    ranks={"w": 8, "a": 12, "v": 16, "g": 96}, layer0_v=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(9)
    model = RWKV7(SPEC)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)  # whatever is forgotten stays NaN
    return {name: p.detach() for name, p in initialise(model, seed=1).named_parameters()}


def test_everything_is_filled_and_repeatable(tensors: dict[str, torch.Tensor]) -> None:
    assert [name for name, tensor in tensors.items() if not tensor.isfinite().all()] == []
    again = dict(initialise(RWKV7(SPEC), seed=1).named_parameters())
    assert all(torch.equal(again[name], tensor) for name, tensor in tensors.items())
    other = dict(initialise(RWKV7(SPEC), seed=2).named_parameters())
    assert not torch.equal(other["emb.weight"], tensors["emb.weight"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blocks.1.att.x_r", 1 - 0.5 ** (0.2 * 2 / 3)),
        ("blocks.1.att.x_w", 1 - 0.5 ** (0.9 * 2 / 3)),
        ("blocks.1.att.x_k", 1 - 0.5 ** (0.7 * 2 / 3)),
        ("blocks.1.ffn.x_k", 1 - 0.5 ** ((2 / 3) ** 4)),
        # Channel 32 is the first of the second head: zigzag is -1 there.
        ("blocks.1.att.w0", -6 + 6 * (32 / 63) ** (1 + 0.5**0.3) + 0.5 - 2.5),
        ("blocks.0.att.a0", -0.19 - 0.3 + 0.4 * (32 / 63 - 0.5)),
        ("blocks.2.att.v0", 0.73 - 0.4 * (32 / 63 - 0.5)),
        ("blocks.0.att.k_k", 0.71 - 0.1 * (32 / 63 - 0.5)),
        ("blocks.2.att.k_a", 1.02),
        ("blocks.0.att.r_k", -0.04),
        ("blocks.0.att.ln_x.weight", (1 / 3) ** 0.7),
        ("blocks.2.att.ln_x.weight", 1.0),
        ("blocks.0.att.ln_x.bias", 0.0),
        ("blocks.0.ln0.weight", 1.0),
        ("blocks.1.ln2.bias", 0.0),
        ("ln_out.weight", 1.0),
        ("blocks.1.att.w1", 0.0),
        ("blocks.2.att.v1", 0.0),
        ("blocks.0.att.output.weight", 0.0),
        ("blocks.0.ffn.value.weight", 0.0),
    ],
)
def test_values_of_the_recipe(tensors: dict[str, torch.Tensor], name: str, value: float) -> None:
    assert float(tensors[name].flatten()[32]) == pytest.approx(value, abs=1e-6)


def test_matrices_of_the_recipe(tensors: dict[str, torch.Tensor]) -> None:
    bound = 0.5 / math.sqrt(64)
    for name, limit in {
        "blocks.0.att.receptance.weight": bound,
        "blocks.0.att.value.weight": bound,
        "blocks.0.att.key.weight": bound / 10,
        "blocks.0.ffn.key.weight": bound,
        "emb.weight": 1e-4,
    }.items():
        largest = float(tensors[name].abs().max())
        assert 0.98 * limit < largest <= limit, name
    head = tensors["head.weight"]  # V × C, orthogonal columns of length 0.5 √(V / C)
    torch.testing.assert_close(head.T @ head, torch.eye(64) * 0.25 * 256 / 64, rtol=0, atol=1e-5)
    w2 = tensors["blocks.1.att.w2"]  # wide: orthogonal rows of length 0.1
    torch.testing.assert_close(w2 @ w2.T, torch.eye(8) * 0.01, rtol=0, atol=1e-6)
    g2 = tensors["blocks.1.att.g2"]  # tall: columns of length 0.1 √(rows / columns)
    torch.testing.assert_close(g2.T @ g2, torch.eye(64) * 0.01 * 96 / 64, rtol=0, atol=1e-6)


def test_a_new_model_guesses_evenly(tensors: dict[str, torch.Tensor]) -> None:
    model = initialise(RWKV7(SPEC), seed=3)
    tokens = torch.randint(256, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden, _ = model(tokens)
        loss = torch.nn.functional.cross_entropy(model.logits(hidden).flatten(0, 1), tokens.flatten())
    assert abs(float(loss) - math.log(256)) < 1.0


def test_one_layer_and_a_small_vocabulary() -> None:
    spec = ModelSpec(
        generation="7", n_layer=1, n_embd=64, dim_att=64, dim_ffn=256, vocab_size=16, head_size=64, n_head=1,
        ranks={"w": 8, "a": 8, "v": 8, "g": 8}, layer0_v=True,
    )  # fmt: skip
    tensors = dict(initialise(RWKV7(spec), seed=1).named_parameters())
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    head = tensors["head.weight"].detach()  # V ≤ C: orthogonal rows of length 0.5
    torch.testing.assert_close(head @ head.T, torch.eye(16) * 0.25, rtol=0, atol=1e-6)

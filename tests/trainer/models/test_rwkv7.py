from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.adapters.lora import attach_lora
from trainer.models.checkpoint import open_checkpoint
from trainer.models.layouts import expected_shapes
from trainer.models.loading import load_model
from trainer.models.rwkv7 import RWKV7, token_shift
from trainer.models.spec import detect_file
from trainer.training.head_loss import head_cross_entropy

# The package is configured by environment variables before it is imported: a process of its own runs it.
PACKAGE = """
import sys
import torch
from rwkv.model import RWKV

for path, tokens_path in zip(sys.argv[1::2], sys.argv[2::2]):
    model = RWKV(model=path.removesuffix(".pth"), strategy="cpu fp32")
    logits, _ = model.forward(torch.load(tokens_path, weights_only=True).tolist(), None, full_output=True)
    torch.save(logits.reshape(-1, logits.shape[-1]).float(), tokens_path + ".logits")
"""


@dataclass(frozen=True)
class Shape:
    """One model, and how many tokens it reads."""

    T: int
    options: dict[str, Any]


SHAPES = {
    "head size 32": Shape(15, {}),
    "head size 64": Shape(16, {"head_size": 64, "n_embd": 128}),
    "width 192, odd ranks": Shape(
        17, {"head_size": 64, "n_embd": 192, "n_layer": 3, "ranks": {"w": 24, "a": 40, "v": 24, "g": 40}}
    ),
    "Pile vocabulary": Shape(33, {"vocab": 50277, "n_layer": 1}),
    "no v in layer 0": Shape(40, {"layer0_v": False}),
    "odd ffn": Shape(5, {"dim_ffn": 96, "vocab": 77}),
    "long": Shape(1000, {"n_embd": 96}),
    "one token": Shape(1, {"n_layer": 3}),
}


def tokens_of(shape: Shape) -> Tensor:
    vocab = shape.options.get("vocab", 300)
    return torch.randint(vocab, (shape.T,), generator=torch.Generator().manual_seed(shape.T))


@pytest.fixture(scope="module")
def by_package(
    tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]
) -> dict[str, tuple[Path, Tensor]]:
    """Each model's file, and the package's logits [T, V]; one process for all."""
    folder = tmp_path_factory.mktemp("package")
    argv = []
    for i, shape in enumerate(SHAPES.values()):
        make_checkpoint(folder / f"{i}.pth", dtype="fp32", seed=i, **shape.options)
        torch.save(tokens_of(shape), folder / f"{i}.tokens")
        argv += [str(folder / f"{i}.pth"), str(folder / f"{i}.tokens")]
    environment = {**os.environ, "RWKV_V7_ON": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
    done = subprocess.run(
        [sys.executable, "-c", PACKAGE, *argv], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {
        name: (folder / f"{i}.pth", torch.load(folder / f"{i}.tokens.logits", weights_only=True))
        for i, name in enumerate(SHAPES)
    }


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_the_package(name: str, by_package: dict[str, tuple[Path, Tensor]]) -> None:
    path, expected = by_package[name]
    model = load_model(path)
    with torch.no_grad():
        hidden, _ = model(tokens_of(SHAPES[name])[None])
        got = model.logits(hidden)[0]
    assert got.shape == expected.shape == (SHAPES[name].T, model.spec.vocab_size)
    assert float(expected.std()) > 0.1  # random models, but not constant ones
    assert float((got - expected).abs().max()) < 1e-4


def build(checkpoint_tensors: Callable[..., Any], tmp_path: Path, **options: Any) -> RWKV7:
    """A float64 model: what is compared here is compared to the last digits."""
    path = tmp_path / "model.pth"
    torch.save(checkpoint_tensors(dtype="fp32", **options), path)
    return load_model(path, dtype=torch.float64)


@pytest.fixture
def model(checkpoint_tensors: Callable[..., Any], tmp_path: Path) -> RWKV7:
    return build(checkpoint_tensors, tmp_path, n_embd=32, head_size=16, vocab=50)


def random_tokens(B: int, T: int, vocab: int = 50, seed: int = 0) -> Tensor:
    return torch.randint(vocab, (B, T), generator=torch.Generator().manual_seed(seed))


def test_parameters_are_named_and_shaped_as_the_file(
    make_checkpoint: Callable[..., Any], tmp_path: Path
) -> None:
    for layer0_v in (True, False):
        written = make_checkpoint(tmp_path / "m.pth", layer0_v=layer0_v, ranks={"w": 24, "g": 40})
        spec = detect_file(open_checkpoint(tmp_path / "m.pth"))
        own = {name: tuple(p.shape) for name, p in RWKV7(spec).named_parameters()}
        assert own == {name: tuple(t.shape) for name, t in written.items()} == expected_shapes(spec)


def test_the_state_carries_over_chunks_of_any_length(model: RWKV7) -> None:
    tokens = random_tokens(2, 70)
    whole, end = model(tokens)
    state, parts = None, []
    for part in tokens.split([1, 15, 16, 17, 21], dim=1):
        hidden, state = model(part, state)
        parts.append(hidden)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-11)
    assert state is not None
    for got, expected in zip(state, end, strict=True):
        for name in ("att_x", "wkv", "ffn_x"):
            torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=1e-11)


def test_resets_equal_documents_run_separately(model: RWKV7) -> None:
    tokens = random_tokens(1, 80)
    starts = (0, 16, 64)
    resets = torch.zeros(1, 5, dtype=torch.bool)
    resets[0, [0, 1, 4]] = True
    _, foreign = model(random_tokens(1, 9, seed=3))
    packed, end = model(tokens, foreign, resets)  # nor is a state seen that comes before the first document
    last = None
    for start, stop in zip(starts, (16, 64, 80), strict=True):
        alone, last = model(tokens[:, start:stop])
        torch.testing.assert_close(packed[:, start:stop], alone, rtol=0, atol=1e-11)
    assert last is not None
    torch.testing.assert_close(end[1].wkv, last[1].wkv, rtol=0, atol=1e-11)
    without, _ = model(tokens)
    assert float((without[:, 16:] - packed[:, 16:]).abs().max()) > 1e-3


def test_rows_of_a_batch_do_not_see_each_other(model: RWKV7) -> None:
    tokens = random_tokens(3, 20)
    batch, _ = model(tokens)
    for row in range(3):
        torch.testing.assert_close(batch[row], model(tokens[row : row + 1])[0][0], rtol=0, atol=1e-12)


def test_token_shift() -> None:
    x = torch.arange(1.0, 41.0).view(1, 20, 2)
    assert torch.equal(token_shift(x, None, None)[0, :2], torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    last = torch.tensor([[7.0, 8.0]])
    shifted = token_shift(x, last, torch.tensor([[False, True]]))
    assert torch.equal(shifted[0, 0], last[0])
    assert torch.equal(shifted[0, 15:18], torch.tensor([[29.0, 30.0], [0.0, 0.0], [33.0, 34.0]]))


def trained(model: RWKV7, dropout: float = 0.0) -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(1)
    attach_lora(model, r=3, alpha=6.0, dropout=dropout, parts=("att", "ffn", "time", "ln"))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith("lora_B"):
                parameter.normal_(std=0.1)
    return parameters


def loss_of(model: RWKV7, tokens: Tensor, targets: Tensor, resets: Tensor | None) -> Tensor:
    hidden, _ = model(tokens, None, resets)
    return head_cross_entropy(hidden.flatten(0, 1), model.head.weight, targets.flatten()) / targets.numel()


def test_gradients_against_finite_differences_through_two_layers(model: RWKV7) -> None:
    """The largest and one more entry of every trained tensor, through packing, LoRA, norms and head."""
    parameters = trained(model)
    tokens, targets = random_tokens(2, 34), random_tokens(2, 34, seed=5)
    resets = torch.tensor([[True, False, True], [True, True, False]])
    loss_of(model, tokens, targets, resets).backward()
    # In layer 0 v is its own v_first; there v0 decides nothing.
    assert [name for name, p in parameters.items() if p.grad is None] == ["blocks.0.att.v0"]
    generator = torch.Generator().manual_seed(2)
    checked = 0
    for name, parameter in parameters.items():
        if parameter.grad is None:
            continue
        gradient, flat = parameter.grad.flatten(), parameter.data.view(-1)
        assert gradient.any(), name
        largest = int(gradient.abs().argmax())
        for entry in {largest, int(torch.randint(len(flat), (1,), generator=generator))}:
            step, middle, sides = 1e-5, float(flat[entry]), []
            for sign in (1, -1):
                flat[entry] = middle + sign * step
                with torch.no_grad():
                    sides.append(float(loss_of(model, tokens, targets, resets)))
            flat[entry] = middle
            numeric, analytic = (sides[0] - sides[1]) / (2 * step), float(gradient[entry])
            assert abs(numeric - analytic) < 1e-4 * abs(numeric) + 1e-9, (name, entry, numeric, analytic)
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_grad_checkpointing_gives_the_same_gradients_bit_for_bit(model: RWKV7, dropout: float) -> None:
    parameters = trained(model, dropout)
    model.train()
    tokens, targets = random_tokens(2, 34), random_tokens(2, 34, seed=5)
    found = []
    for grad_cp in (False, True):
        model.grad_cp = grad_cp
        model.zero_grad()
        torch.manual_seed(11)
        loss = loss_of(model, tokens, targets, None)
        loss.backward()
        found.append((float(loss.detach()), {n: p.grad for n, p in parameters.items() if p.grad is not None}))
    (plain_loss, plain), (checkpointed_loss, checkpointed) = found
    assert checkpointed_loss == plain_loss
    assert set(plain) == set(checkpointed) == set(parameters) - {"blocks.0.att.v0"}
    assert [name for name in plain if not torch.equal(plain[name], checkpointed[name])] == []


def test_gradients_flow_through_a_state_that_is_carried(model: RWKV7) -> None:
    parameters = trained(model)
    tokens, targets = random_tokens(1, 30), random_tokens(1, 30, seed=5)
    loss_of(model, tokens, targets, None).backward()
    whole = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    model.zero_grad()
    first, state = model(tokens[:, :13])
    second, _ = model(tokens[:, 13:], state)
    hidden = torch.cat((first, second), 1)[0]
    (head_cross_entropy(hidden, model.head.weight, targets[0]) / 30).backward()
    for name, gradient in whole.items():
        torch.testing.assert_close(parameters[name].grad, gradient, rtol=0, atol=1e-12)


def test_bf16_stays_near_fp32(by_package: dict[str, tuple[Path, Tensor]]) -> None:
    path, expected = by_package["head size 64"]
    model = load_model(path, dtype=torch.bfloat16)
    with torch.no_grad():
        hidden, state = model(tokens_of(SHAPES["head size 64"])[None])
        got = model.logits(hidden)[0].float()
    assert (hidden.dtype, state[0].wkv.dtype) == (torch.bfloat16, torch.float32)
    assert float((got - expected).norm() / expected.norm()) < 0.03

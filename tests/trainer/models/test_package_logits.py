"""Every generation against the package `rwkv`: the same logits from the same file, in fp32."""

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

from trainer.contract.errors import InputError
from trainer.models.loading import load_model

# The package is configured by environment variables before it is imported: processes of their own run it.
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
class Case:
    """One model, and how many tokens it reads."""

    T: int
    generation: str
    options: dict[str, Any]


WIDE = {"head_size": 64, "n_embd": 192, "n_layer": 3}
CASES = {
    "4": Case(17, "4", {}),
    "4, one token": Case(1, "4", {"n_layer": 3}),
    "4, width 192": Case(16, "4", {"n_embd": 192, "n_layer": 3}),
    "4, Pile vocabulary": Case(33, "4", {"vocab": 50277}),
    "4, long": Case(1000, "4", {"n_embd": 96}),
    "5.0": Case(17, "5.0", {}),
    "5.0, one token": Case(1, "5.0", {"n_layer": 3}),
    "5.0, raw bonus, width 192": Case(16, "5.0", {**WIDE, "u_key": "time_faaaa"}),
    "5.0, long": Case(1000, "5.0", {"n_embd": 96}),
    "5.1": Case(17, "5.1", {}),
    "5.1, raw bonus": Case(15, "5.1", {"u_key": "time_faaaa"}),
    "5.1, width 192, long": Case(1000, "5.1", WIDE),
    "5.2": Case(17, "5.2", {}),
    "5.2, one token": Case(1, "5.2", {"head_size": 64, "n_embd": 128}),
    "5.2, width 192, odd ffn": Case(16, "5.2", {**WIDE, "dim_ffn": 96, "vocab": 77}),
    "5.2, head size 128": Case(15, "5.2", {"head_size": 128, "n_embd": 256}),
    "5.2, long": Case(1000, "5.2", {"n_embd": 96}),
    "6": Case(17, "6", {}),
    "6, one token": Case(1, "6", {"n_layer": 3}),
    "6, head size 64": Case(15, "6", {"head_size": 64, "n_embd": 128}),
    "6, head size 128": Case(17, "6", {"head_size": 128, "n_embd": 256}),
    "6, width 192, odd ranks": Case(16, "6", {**WIDE, "ranks": {"mix": 24, "decay": 40}}),
    "6, Pile vocabulary": Case(33, "6", {"vocab": 50277}),
    "6, long": Case(1000, "6", {"n_embd": 96}),
    "7, head size 32": Case(15, "7", {}),
    "7, head size 64": Case(16, "7", {"head_size": 64, "n_embd": 128}),
    "7, head size 128": Case(17, "7", {"head_size": 128, "n_embd": 256}),
    "7, width 192, odd ranks": Case(17, "7", {**WIDE, "ranks": {"w": 24, "a": 40, "v": 24, "g": 40}}),
    "7, Pile vocabulary": Case(33, "7", {"vocab": 50277, "n_layer": 1}),
    "7, no v in layer 0": Case(40, "7", {"layer0_v": False}),
    "7, odd ffn": Case(5, "7", {"dim_ffn": 96, "vocab": 77}),
    "7, long": Case(1000, "7", {"n_embd": 96}),
    "7, one token": Case(1, "7", {"n_layer": 3}),
}


def tokens_of(case: Case) -> Tensor:
    vocab = case.options.get("vocab", 300)
    return torch.randint(vocab, (case.T,), generator=torch.Generator().manual_seed(case.T))


@pytest.fixture(scope="module")
def by_package(
    tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Any]
) -> dict[str, tuple[Path, Tensor]]:
    """Each model's file, and the package's logits [T, V]; one process for 7, one for all others."""
    folder = tmp_path_factory.mktemp("package")
    argv: dict[bool, list[str]] = {True: [], False: []}
    for i, case in enumerate(CASES.values()):
        make_checkpoint(folder / f"{i}.pth", case.generation, dtype="fp32", seed=i, **case.options)
        torch.save(tokens_of(case), folder / f"{i}.tokens")
        argv[case.generation == "7"] += [str(folder / f"{i}.pth"), str(folder / f"{i}.tokens")]
    for seven, files in argv.items():
        environment = {
            **os.environ, "RWKV_V7_ON": str(int(seven)), "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0",
        }  # fmt: skip
        command = [sys.executable, "-c", PACKAGE, *files]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return {
        name: (folder / f"{i}.pth", torch.load(folder / f"{i}.tokens.logits", weights_only=True))
        for i, name in enumerate(CASES)
    }


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_the_package(name: str, by_package: dict[str, tuple[Path, Tensor]]) -> None:
    path, expected = by_package[name]
    model = load_model(path)
    assert model.spec.generation == CASES[name].generation
    with torch.no_grad():
        hidden, _ = model(tokens_of(CASES[name])[None])
        got = model.logits(hidden)[0]
    assert got.shape == expected.shape == (CASES[name].T, model.spec.vocab_size)
    assert float(expected.std()) > 0.1  # random models, but not constant ones
    assert float((got - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["4", "5.0", "5.1", "5.2", "6", "7, head size 64"])
def test_bf16_stays_near_fp32(name: str, by_package: dict[str, tuple[Path, Tensor]]) -> None:
    path, expected = by_package[name]
    model = load_model(path, dtype=torch.bfloat16)
    with torch.no_grad():
        hidden, state = model(tokens_of(CASES[name])[None])
        got = model.logits(hidden)[0].float()
    assert (hidden.dtype, state[0].wkv.dtype) == (torch.bfloat16, torch.float32)
    assert float((got - expected).norm() / expected.norm()) < 0.03


CONVERT = """
import sys
from rwkv.model import RWKV

source, strategy, out = sys.argv[1:]
RWKV(model=source.removesuffix(".pth"), strategy=strategy, convert_and_save_and_exit=out)
"""


@pytest.mark.parametrize(("generation", "strategy"), [("4", "cpu fp32"), ("6", "cpu fp32i8")])
def test_what_the_package_has_converted_is_refused_as_that(
    tmp_path: Path, make_checkpoint: Callable[..., Any], generation: str, strategy: str
) -> None:
    """Transposed, rescaled and perhaps quantised: a model to run, not one to train."""
    source, out = tmp_path / "m.pth", tmp_path / "converted.pth"
    make_checkpoint(source, generation)
    environment = {**os.environ, "RWKV_V7_ON": "0", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
    command = [sys.executable, "-c", CONVERT, str(source), strategy, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(InputError) as caught:
        load_model(out)
    assert caught.value.code == "model_variant"
    assert "convert" in caught.value.problem.args["variant"]
    # Nor does it pass for a model without the package's marks.
    tensors = {k: v for k, v in torch.load(out, weights_only=True).items() if isinstance(v, torch.Tensor)}
    torch.save(tensors, tmp_path / "unmarked.pth")
    with pytest.raises(InputError):
        load_model(tmp_path / "unmarked.pth")

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.models.layouts import is_projection
from trainer.models.loading import load_model
from trainer.models.quantised import BLOCK, NF4_LEVELS, QuantisedLinear, QuantisedWeight

GENERATIONS = ("4", "5.0", "5.1", "5.2", "6", "7")
# Half of the widest step between two codes, relative to a block's absmax.
HALF_STEP = {"nf4": (1.0 - 0.6961928009986877) / 2, "int8": 0.5 / 127}


def matrix(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def absmax_of(W: Tensor) -> Tensor:
    """The absmax of each weight's block."""
    padded = torch.nn.functional.pad(W, (0, -W.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK)).abs().amax(2)
    return padded.repeat_interleave(BLOCK, 1)[:, : W.shape[1]]


@pytest.mark.parametrize("shape", [(3, 64), (7, 100), (5, 1), (64, 192), (40, 2048)])
@pytest.mark.parametrize("quant", HALF_STEP)
def test_no_weight_is_off_by_more_than_half_a_step(quant: Any, shape: tuple[int, int]) -> None:
    W = matrix(*shape)
    found = QuantisedWeight(W, quant).dense(torch.float32)
    share = W.abs().amax(1, keepdim=True) / 255
    assert bool(((found - W).abs() <= HALF_STEP[quant] * (absmax_of(W) + share) * (1 + 1e-5)).all())


@pytest.mark.parametrize(("quant", "error"), [("nf4", 0.093), ("int8", 0.0061)])
def test_the_error_over_normal_weights(quant: Any, error: float) -> None:
    W = matrix(256, 2048)
    found = QuantisedWeight(W, quant).dense(torch.float32)
    assert float((found - W).norm() / W.norm()) == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize(("quant", "bits"), [("nf4", 4.14), ("int8", 8.14)])
def test_bits_of_a_weight(quant: Any, bits: float) -> None:
    held = sum(buffer.nbytes for buffer in QuantisedWeight(matrix(64, 2048), quant).buffers())
    assert 8 * held / (64 * 2048) == pytest.approx(bits, abs=0.005)


def test_what_a_code_can_say_comes_back() -> None:
    """A row of every level times its absmax, two scales, zeros: no bit of them is lost."""
    levels = torch.tensor(NF4_LEVELS).repeat(4)
    W = torch.stack((levels, levels * 3.0, torch.zeros(64)))
    torch.testing.assert_close(QuantisedWeight(W, "nf4").dense(torch.float32), W, rtol=1e-6, atol=0)
    W = torch.arange(-128, 128).clamp_min(-127).float()[None] / 4
    W = torch.cat((W[:, :64], W[:, 192:]), 1)
    torch.testing.assert_close(QuantisedWeight(W, "int8").dense(torch.float32), W, rtol=1e-6, atol=1e-6)


def test_the_levels_are_quantiles_of_a_normal_distribution() -> None:
    """Eight negative ones, zero, seven positive ones, as in appendix E of the QLoRA paper."""
    offset = 1 - (1 / 32 + 1 / 30) / 2
    normal = torch.distributions.Normal(0.0, 1.0)
    positive = normal.icdf(torch.linspace(offset, 0.5, 9, dtype=torch.float64))[:-1]
    negative = -normal.icdf(torch.linspace(offset, 0.5, 8, dtype=torch.float64))[:-1]
    levels = torch.cat((negative, torch.zeros(1, dtype=torch.float64), positive)).sort().values
    levels /= levels.abs().max()
    torch.testing.assert_close(torch.tensor(NF4_LEVELS).double(), levels, rtol=0, atol=1e-5)


@pytest.mark.parametrize("quant", HALF_STEP)
def test_rows_are_quantised_by_themselves(quant: Any) -> None:
    """So a merge can repeat it a few rows at a time."""
    W = matrix(12, 100)
    whole = QuantisedWeight(W, quant).dense(torch.float32)
    parts = [QuantisedWeight(rows, quant).dense(torch.float32) for rows in W.split(5)]
    assert torch.equal(torch.cat(parts), whole)


def test_packed_as_bitsandbytes_packs() -> None:
    """Row by row, the first weight of a pair in the high four bits."""
    W = torch.tensor([[-1.0, 1.0] * 32])
    assert QuantisedWeight(W, "nf4").codes.unique().tolist() == [0x0F]


@pytest.mark.parametrize("shape", [(7, 100), (64, 192)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_of_bitsandbytes_decodes_the_same(shape: tuple[int, int], dtype: torch.dtype) -> None:
    kernels = pytest.importorskip("bitsandbytes").functional
    weight = QuantisedWeight(matrix(*shape), "nf4")
    assert torch.equal(weight._decoded_by(kernels, dtype), weight.dense(dtype))


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_models_projections_and_nothing_else(
    make_checkpoint: Callable[..., Any], tmp_path: Path, generation: str
) -> None:
    written = make_checkpoint(tmp_path / "m.pth", generation, n_embd=64, dim_ffn=96)
    model = load_model(tmp_path / "m.pth", quant="nf4")
    quantised = {f"{n}.weight" for n, module in model.named_modules() if isinstance(module, QuantisedLinear)}
    assert quantised == {name for name in written if is_projection(name)}
    assert all(written[name].dim() == 2 for name in quantised)
    assert set(dict(model.named_parameters())) == set(written) - quantised
    by_hand = load_model(tmp_path / "m.pth")
    for name in quantised:
        by_hand.get_parameter(name).data = QuantisedWeight(written[name], "nf4").dense(torch.float32)
    tokens = torch.arange(1, 20)[None]
    torch.testing.assert_close(model(tokens)[0], by_hand(tokens)[0], rtol=0, atol=1e-5)
    exact = load_model(tmp_path / "m.pth")(tokens)[0]
    share = float((model(tokens)[0] - exact).norm() / exact.norm())
    assert 0.01 < share < 0.5


def test_half_precision_is_the_decoded_value_rounded_once() -> None:
    for quant in HALF_STEP:
        weight = QuantisedWeight(matrix(8, 128).bfloat16(), quant)  # type: ignore[arg-type]
        assert torch.equal(weight.dense(torch.bfloat16), weight.dense(torch.float32).bfloat16())

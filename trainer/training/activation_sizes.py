"""What a block keeps of its activations for the backward pass, from shapes alone. No torch.

Counted on real blocks of every generation, saved tensor by saved tensor; a test counts them again. What is
kept of a token is so many vectors of n_embd in the activations' dtype and in fp32 (the recurrence), and what
the adapters need. Weights that are cast or joined for a product do not grow with the tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.contract.params import TrainParams
from trainer.models.layouts import ModelSpec, Shape, expected_shapes, is_projection

FP32_BYTES = 4
# The C code computes heads of this size; smaller ones are filled up.
_NATIVE_HEAD = 64


@dataclass(frozen=True, slots=True)
class _Kept:
    """Vectors of n_embd for each token.

    Attributes:
        plain: in the activations' dtype, with nothing trained in the block.
        mixing: in fp32, outside the recurrence. recurrence: in fp32, in C. chunked: in fp32 more, in chunks.
        time: more in the activations' dtype where the mixing vectors are trained. time_lora: where the
            low-rank matrices are.
    """

    plain: float
    mixing: float
    recurrence: float
    chunked: float
    time: float
    time_lora: float = 0.0


_KEPT = {
    "4": _Kept(plain=5, mixing=5, recurrence=0, chunked=0, time=5),
    "5.0": _Kept(plain=4, mixing=0, recurrence=8, chunked=12.3, time=5),
    "5.1": _Kept(plain=7, mixing=0, recurrence=8, chunked=12.3, time=6),
    "5.2": _Kept(plain=7, mixing=0, recurrence=8, chunked=12.3, time=6),
    "6": _Kept(plain=13, mixing=0, recurrence=9, chunked=12.3, time=1, time_lora=2),
    "7": _Kept(plain=6, mixing=6, recurrence=11, chunked=20, time=4, time_lora=4),
}
# Results of a low-rank pair that are kept, and those kept only where the pairs are trained.
_LOW_RANKS = {"6": ({"mix": 5, "decay": 1}, {}), "7": ({"w": 1, "g": 1}, {"a": 1, "v": 1})}


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Bytes that one block keeps.

    Attributes:
        everything, products, block_input: for each token: all of it, the frozen products, the block's input.
        constant: whatever the number of tokens.
    """

    everything: float
    products: float
    block_input: float
    constant: float


def block_sizes(spec: ModelSpec, params: TrainParams, dtype_bytes: int, *, chunked: bool) -> BlockSizes:
    """What a block of a model keeps.

    Args:
        dtype_bytes: of an activation. chunked: the recurrence runs in chunks, as on a GPU, and not in C.
    """
    kept, C = _KEPT[spec.generation], spec.n_embd
    trained = params.lora_parts if params.method != "full" else ("time", "time_lora")
    adapted = list(_adapted(spec, params))
    always, when_trained = _LOW_RANKS.get(spec.generation, ({}, {}))
    elements = kept.plain * C + spec.dim_ffn + _rank_sum(spec, always)
    elements += kept.time * C if "time" in trained and params.method != "state" else 0
    if "time_lora" in trained and params.method != "state":
        # RWKV-7's v1 reads what `value` reads.
        shared = spec.generation == "7" and ("att" in trained or params.method == "full")
        elements += (kept.time_lora - shared) * C + _rank_sum(spec, when_trained)
    elements += sum(_adapter_elements(shape, params) for shape in adapted)
    fp32 = kept.mixing + (kept.recurrence + kept.chunked if chunked else kept.recurrence * _filled(spec))
    return BlockSizes(
        everything=elements * dtype_bytes + fp32 * C * FP32_BYTES,
        products=dtype_bytes
        * sum(shape[0] for shape in projections(spec).values() if params.method != "full"),
        block_input=C * dtype_bytes,
        constant=_constant(spec, params, adapted, dtype_bytes),
    )


def projections(spec: ModelSpec) -> dict[str, Shape]:
    """The projections of one block and their shapes [out, in]."""
    return {name: shape for name, shape in _block_shapes(spec).items() if is_projection(name)}


def _block_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """All tensors of one block."""
    return {name: shape for name, shape in expected_shapes(spec).items() if name.startswith("blocks.0.")}


def _adapted(spec: ModelSpec, params: TrainParams) -> Iterator[Shape]:
    """Shapes of the projections whose inputs training needs."""
    if params.method == "state":
        return
    for name, shape in projections(spec).items():
        if params.method == "full" or name.split(".")[2] in params.lora_parts:
            yield shape


def _adapter_elements(shape: Shape, params: TrainParams) -> int:
    """What an adapted projection [out, in] keeps of a token besides what its block keeps anyway."""
    d_out, d_in, r = *shape, params.lora_r
    if params.method == "full":
        return d_in
    if params.method == "miss":
        return r
    if params.method == "pissa":
        return d_in + 2 * r
    # Dropout keeps its mask too, and with it what it has left of the input in the input's place.
    inputs = 2 * d_in if params.lora_dropout else d_in
    return inputs + r + (d_out if params.method == "dora" else 0)


def _constant(spec: ModelSpec, params: TrainParams, adapted: list[Shape], dtype_bytes: int) -> float:
    if params.method == "pissa":  # both halves of the leaves, side by side
        return sum(2 * params.lora_r * sum(shape) * FP32_BYTES for shape in adapted)
    if dtype_bytes == FP32_BYTES or params.method == "state":
        return 0.0
    # 16-bit copies of fp32 masters.
    if params.method == "full":
        return dtype_bytes * sum(map(math.prod, _block_shapes(spec).values()))
    elements = 0
    if "time_lora" in params.lora_parts:
        low_rank = re.compile(r"\.att\.([wavg]|time_maa_w|time_decay_w)[12]$")
        elements += sum(math.prod(s) for name, s in _block_shapes(spec).items() if low_rank.search(name))
    if params.method in ("lora", "dora") and params.lora_dropout:
        elements += sum(params.lora_r * sum(shape) for shape in adapted)
    return dtype_bytes * elements


def _rank_sum(spec: ModelSpec, counts: dict[str, int]) -> int:
    return sum(count * spec.ranks.get(name, 0) for name, count in counts.items())


def _filled(spec: ModelSpec) -> float:
    return max(1.0, _NATIVE_HEAD / spec.head_size) if spec.head_size else 1.0

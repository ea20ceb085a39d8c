"""How much memory a run needs on each device, from its base's shapes and its parameters. No torch.

What a block keeps is counted (`activation_sizes`), the rest is what is alive beside it at the worst moment
of a step. On the CPU glibc's heap holds more than is alive, because blocks of many sizes come and go in it;
where memory is short a run has large blocks mapped one by one (`heap`): that costs time and wastes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainer.contract.params import TrainParams
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import ModelSpec, Shape, is_projection, state_shapes
from trainer.training.activation_sizes import FP32_BYTES, block_sizes

Kind = Literal["cpu", "cuda"]
ALIGN_TOKENS = 16
# Python, PyTorch and Lightning with what they have loaded by the first step; CUDA's context and libraries.
PROCESS_BYTES = {"cpu": 465_000_000, "cuda": 550_000_000}
# On the CPU at the start, while the tokenizer is there and the model is not yet.
READING_BYTES = 590_000_000
# Gradient and AdamW's two moments of a trained element; an fp32 master beside it where the base has 16 bits.
UPDATE_BYTES = 12
# Vectors per token that exist for a moment: gradients within a block, and around the head.
_PASSING = 13.3
# What glibc's heap holds of what is alive for a step, measured between 1.2 and 1.8; PyTorch's pool on a GPU.
_HEAP_FACTOR = {"cpu": 1.45, "cuda": 1.1}
_HEAP_FACTOR_7 = 1.6
# Of the free memory, what a heap that is not kept tight may come to hold.
LOOSE_SHARE = 0.7
# Of the free memory, what may be planned with; see `trainer.training.activations`.
USABLE_SHARE = 0.8
_BLOCK = 64
_ZERO = "deepspeed_stage_"
# Bytes for each weight of a matrix that is decoded for a product.
_DECODING_BYTES = {"none": 0, "nf4": 6, "int8": 4}
_HEAD_TILES_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes at the worst moment of a step on each device, and what they are for.

    Attributes:
        recomputed: what of a block is computed again: "none", "selective" or "full".
        activations_bytes: what is alive for a step. tokens: that are computed at once.
        tight: whether the heap has to be kept from growing beyond what is alive (CPU).
        least_bytes: with everything recomputed where that is allowed, and a tight heap: what has to be there.
        largest_tokens: the largest micro_bsz × ctx_len that fits so, a multiple of 16; 0 where none does.
    """

    device: Kind
    process_bytes: int
    weights_bytes: int
    trained_bytes: int
    activations_bytes: int
    recomputed: str
    tight: bool
    total_bytes: int
    least_bytes: int
    tokens: int
    largest_tokens: int

    @property
    def fixed_bytes(self) -> int:
        """What does not depend on the length or number of rows."""
        return self.process_bytes + self.weights_bytes + self.trained_bytes


def estimate_memory(
    infos: Mapping[str, TensorInfo],
    spec: ModelSpec,
    params: TrainParams,
    *,
    device: Kind,
    dtype_bytes: int,
    available_bytes: int,
) -> MemoryEstimate:
    """What a run will hold on each device that has so many bytes free.

    Args:
        dtype_bytes: of the frozen base and the activations.
    """
    shapes = {name: info.shape for name, info in infos.items()}
    weights, decoding = _weights(shapes, params, dtype_bytes)
    trained = _trained_bytes(shapes, spec, params, dtype_bytes)
    weights, trained = _on_one_device(weights, trained, params)
    fixed = PROCESS_BYTES[device] + weights + trained
    tokens = params.micro_bsz * _aligned(params.ctx_len)
    policies = _activations(spec, params, dtype_bytes, tokens, chunked=device == "cuda")
    extra = decoding + _head_bytes(shapes, params)
    free = available_bytes - fixed
    usable = USABLE_SHARE * free
    recomputed = next((name for name, size in policies.items() if size <= usable), list(policies)[-1])
    alive, least = policies[recomputed] + extra, list(policies.values())[-1] + extra
    factor = _HEAP_FACTOR_7 if (device, spec.generation) == ("cpu", "7") else _HEAP_FACTOR[device]
    tight = device == "cpu" and factor * alive > LOOSE_SHARE * free
    floor = READING_BYTES if device == "cpu" else 0
    each = (least - extra) / tokens
    return MemoryEstimate(
        device=device,
        process_bytes=PROCESS_BYTES[device],
        weights_bytes=weights,
        trained_bytes=trained,
        activations_bytes=int(alive),
        recomputed=recomputed,
        tight=tight,
        total_bytes=int(max(floor, fixed + (1.0 if tight else factor) * alive)),
        least_bytes=int(max(floor, fixed + least)),
        tokens=tokens,
        largest_tokens=max(0, int((free - extra) / each) // ALIGN_TOKENS * ALIGN_TOKENS),
    )


def _on_one_device(weights: int, trained: int, params: TrainParams) -> tuple[int, int]:
    """What ZeRO leaves of weights and of what is trained on each device: moments, gradients, weights."""
    stage = int(params.strategy[len(_ZERO)]) if params.strategy.startswith(_ZERO) else 0
    world = params.devices * params.num_nodes
    divided = {0: 0.0, 1: 0.5, 2: 0.75, 3: 0.75}[stage]  # of 16 bytes an element: 8 moments, 4 gradient
    kept = 1 - divided if params.strategy.endswith("offload") else 1 - divided + divided / world
    return weights // world if stage == 3 else weights, int(trained * kept)


def _aligned(tokens: int) -> int:
    return -(-tokens // ALIGN_TOKENS) * ALIGN_TOKENS


def _activations(
    spec: ModelSpec, params: TrainParams, dtype_bytes: int, tokens: int, *, chunked: bool
) -> dict[str, float]:
    """Bytes that are alive with each policy that a run may choose, the quickest first."""
    sizes, L = block_sizes(spec, params, dtype_bytes, chunked=chunked), spec.n_layer
    passing = _PASSING * spec.n_embd * FP32_BYTES
    one = sizes.everything + passing
    kept = {
        "none": L * sizes.everything + passing,
        "selective": L * (sizes.block_input + sizes.products) + one,
        "full": L * sizes.block_input + one,
    }
    constants = {"none": L * sizes.constant, "selective": sizes.constant, "full": sizes.constant}
    names = ("none", "selective", "full") if params.grad_cp else ("none",)
    return {name: kept[name] * tokens + constants[name] for name in names}


def _weights(shapes: Mapping[str, Shape], params: TrainParams, dtype_bytes: int) -> tuple[int, int]:
    """Bytes of the frozen base, and what decoding its largest matrix takes for a moment."""
    total = largest = 0
    for name, shape in shapes.items():
        if params.quant == "none" or not is_projection(name):
            total += dtype_bytes * math.prod(shape)
            continue
        blocks = -(-shape[1] // _BLOCK)
        codes = blocks * _BLOCK // (2 if params.quant == "nf4" else 1)
        total += shape[0] * (codes + blocks + FP32_BYTES)
        largest = max(largest, math.prod(shape))
    return total, largest * (_DECODING_BYTES[params.quant] + (dtype_bytes if dtype_bytes < FP32_BYTES else 0))


def _head_bytes(shapes: Mapping[str, Shape], params: TrainParams) -> int:
    """What a trained head needs for a moment: a gradient before it is scaled, and rows of logits."""
    if params.method == "state" or (params.method != "full" and "head" not in params.lora_parts):
        return 0
    return _HEAD_TILES_BYTES + FP32_BYTES * math.prod(shapes["head.weight"])


def _trained_bytes(
    shapes: Mapping[str, Shape], spec: ModelSpec, params: TrainParams, dtype_bytes: int
) -> int:
    own, added = _trained(shapes, spec, params)
    leaf = UPDATE_BYTES + FP32_BYTES * (2 if params.method == "pissa" else 1)  # PiSSA keeps its start too
    return own * (UPDATE_BYTES + FP32_BYTES - dtype_bytes) + added * leaf


def _trained(shapes: Mapping[str, Shape], spec: ModelSpec, params: TrainParams) -> tuple[int, int]:
    """Elements of the base's tensors that are trained, and of those that are added."""
    if params.method == "full":
        return sum(math.prod(shape) for shape in shapes.values()), 0
    if params.method == "state":
        return 0, sum(math.prod(shape) for shape in state_shapes(spec).values())
    own = added = 0
    for name, shape in shapes.items():
        if is_projection(name):
            if name.split(".")[2] in params.lora_parts:
                added += _leaf_elements(shape, params)
        elif name in ("emb.weight", "head.weight"):
            own += math.prod(shape) * (name.partition(".")[0] in params.lora_parts)
        # Vectors are counted whatever part they belong to; they are next to nothing.
        elif max(shape) == math.prod(shape) or "time_lora" in params.lora_parts:
            own += math.prod(shape)
    return own, added


def _leaf_elements(shape: Shape, params: TrainParams) -> int:
    """Of an adapter on a projection [out, in]."""
    if params.method == "miss":
        return params.lora_r * shape[0]
    return params.lora_r * sum(shape) + (shape[0] if params.method == "dora" else 0)

"""How much memory a run on the CPU needs, from the shapes of the base's tensors and the parameters. No torch.

What activations take was measured for every generation, with the recurrences in C (heads are filled up to 64)
and fp32 throughout. Counted in vectors, tokens × n_embd × 4 bytes, it is the same at every width and length.
The figure is what is alive at the worst moment. glibc's heap may hold twice the activations and more, as it
keeps freed blocks for later; with MALLOC_MMAP_THRESHOLD_=1000000 in the environment it gives them back, for a
third more time in the steps of a narrow model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.contract.params import TrainParams
from trainer.models.checkpoint import TensorInfo
from trainer.models.layouts import PROJECTIONS, ModelSpec, is_projection

_ALIGN_TOKENS = 16
_FP32_BYTES = 4
# A trained element beside the base's own: gradient and AdamW's two moments.
_UPDATE_BYTES = 12
# Python, PyTorch and Lightning with what they have loaded by the first step.
PROCESS_BYTES = 460_000_000
# At the start, while the tokenizer is there and the model is not yet.
READING_BYTES = 590_000_000
# Vectors per token that a layer keeps for its backward pass, besides two of dim_ffn; by generation.
_KEPT = {"4": 25.2, "5": 31.8, "6": 34.0, "7": 35.6}
# Vectors per token that exist for a moment, in one layer.
_PASSING = 13.3
# The same with gradient checkpointing: a layer keeps its input, and one at a time is computed again.
_KEPT_CHECKPOINTED = 3.0
_PASSING_CHECKPOINTED = {"4": 81.6, "5": 86.1, "6": 88.1, "7": 93.6}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes at the worst moment of a step, and what they are for.

    Attributes:
        tokens: that are computed at once, micro_bsz × ctx_len.
    """

    process_bytes: int
    weights_bytes: int
    trained_bytes: int
    activations_bytes: int
    tokens: int

    @property
    def total_bytes(self) -> int:
        """The most that is held at once; a small model never holds as much as reading the data takes."""
        return max(READING_BYTES, self.fixed_bytes + self.activations_bytes)

    @property
    def fixed_bytes(self) -> int:
        """What does not depend on the length or number of rows."""
        return self.process_bytes + self.weights_bytes + self.trained_bytes

    def largest_tokens(self, available_bytes: int) -> int:
        """The largest micro_bsz × ctx_len that fits, a multiple of 16; 0 where not even the model does."""
        fitting = int((available_bytes - self.fixed_bytes) * self.tokens / self.activations_bytes)
        return max(0, fitting // _ALIGN_TOKENS * _ALIGN_TOKENS)


def estimate_memory(infos: Mapping[str, TensorInfo], spec: ModelSpec, params: TrainParams) -> MemoryEstimate:
    """Memory of a LoRA or full run without quantisation on the CPU."""
    tokens = params.micro_bsz * -(-params.ctx_len // _ALIGN_TOKENS) * _ALIGN_TOKENS
    own, added = _trained(infos, params)
    vectors = _activation_vectors(spec, params)
    return MemoryEstimate(
        process_bytes=PROCESS_BYTES,
        weights_bytes=_FP32_BYTES * sum(info.numel for info in infos.values()),
        trained_bytes=_UPDATE_BYTES * own + (_UPDATE_BYTES + _FP32_BYTES) * added,
        activations_bytes=int(vectors * tokens * spec.n_embd * _FP32_BYTES),
        tokens=tokens,
    )


def _activation_vectors(spec: ModelSpec, params: TrainParams) -> float:
    generation = spec.generation.partition(".")[0]
    inputs = _adapted_inputs(spec, params) if params.lora_dropout and params.method != "full" else 0.0
    if params.grad_cp:
        return _KEPT_CHECKPOINTED * spec.n_layer + _PASSING_CHECKPOINTED[generation] + inputs
    return spec.n_layer * (_KEPT[generation] + 2 * spec.dim_ffn / spec.n_embd + inputs) + _PASSING


def _adapted_inputs(spec: ModelSpec, params: TrainParams) -> float:
    """What the projections of a layer read, in vectors: dropout keeps all of it once more."""
    leaves = {"att": 5 if spec.generation in ("5.1", "5.2", "6") else 4, "ffn": 1.0}
    leaves["ffn"] += spec.dim_ffn / spec.n_embd + (spec.generation != "7")
    return sum(leaves[part] for part in PROJECTIONS if part in params.lora_parts)


def _trained(infos: Mapping[str, TensorInfo], params: TrainParams) -> tuple[int, int]:
    """Elements of the base's tensors that are trained, and of those that are added."""
    if params.method == "full":
        return sum(info.numel for info in infos.values()), 0
    own = added = 0
    for name, info in infos.items():
        if is_projection(name):
            if name.split(".")[2] in params.lora_parts:
                added += params.lora_r * sum(info.shape)
        elif name in ("emb.weight", "head.weight"):
            own += info.numel * (name.partition(".")[0] in params.lora_parts)
        # Vectors are counted whatever part they belong to; they are next to nothing.
        elif max(info.shape) == info.numel or "time_lora" in params.lora_parts:
            own += info.numel
    return own, added

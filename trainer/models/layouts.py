"""The exact tensors of each RWKV generation: key -> shape, from the sizes of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

Shape = tuple[int, ...]
# The matrices that tokens are multiplied with, where a generation has them: most of a block's weights.
PROJECTIONS = {
    "att": ("receptance", "key", "value", "output", "gate"),
    "ffn": ("key", "value", "receptance"),
}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a checkpoint is, all of it read from the file.

    Attributes:
        generation: "4", "5.0", "5.1", "5.2", "6" or "7".
        dim_att: width A of the attention; n_embd in every public model.
        head_size, n_head: 0 for generation 4, which has no heads.
        ranks: 7: of the low-rank pairs "w", "a", "v", "g" ("v" is absent if no block has it);
            6: "mix" and "decay".
        layer0_v: whether block 0 of a 7 holds v0, v1, v2, which nothing uses.
        bonus_key: 5: "time_first" (its exponential is the bonus) or "time_faaaa".
        dtype: type of most elements; `dtypes` are all that occur.
        parameters: elements of all tensors.
    """

    generation: str
    n_layer: int
    n_embd: int
    dim_att: int
    dim_ffn: int
    vocab_size: int
    head_size: int
    n_head: int
    ranks: dict[str, int] = field(default_factory=dict)
    layer0_v: bool = False
    bonus_key: str | None = None
    dtype: str = "bf16"
    dtypes: tuple[str, ...] = ()
    parameters: int = 0


def expected_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Every tensor that a model of this spec has, in the order of the published files."""
    att = {"4": _att_4, "6": _att_6, "7": _att_7}.get(spec.generation, _att_5)
    C, V = spec.n_embd, spec.vocab_size
    shapes: dict[str, Shape] = {"emb.weight": (V, C)}
    for block in range(spec.n_layer):
        for norm in ("ln1", "ln2", "ln0") if block == 0 else ("ln1", "ln2"):
            shapes |= {f"blocks.{block}.{norm}.{part}": (C,) for part in ("weight", "bias")}
        shapes |= {f"blocks.{block}.att.{name}": shape for name, shape in att(spec, block).items()}
        shapes |= {f"blocks.{block}.ffn.{name}": shape for name, shape in _ffn(spec).items()}
    return shapes | {"ln_out.weight": (C,), "ln_out.bias": (C,), "head.weight": (V, C)}


def optional_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Tensors that a file may have besides: initial states, which no tool reads from a file of a 7."""
    return {} if spec.generation == "7" else state_shapes(spec)


def state_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """The initial states of state tuning, [H, N of v, N of k]; generation 4 has no such states."""
    if spec.generation == "4":
        return {}
    state = (spec.n_head, spec.head_size, spec.head_size)
    return {f"blocks.{block}.att.time_state": state for block in range(spec.n_layer)}


def is_projection(name: str) -> bool:
    """Whether a tensor is one of the `PROJECTIONS`, like `blocks.0.att.key.weight`."""
    match = re.fullmatch(r"blocks\.\d+\.(att|ffn)\.(\w+)\.weight", name)
    return match is not None and match[2] in PROJECTIONS[match[1]]


def _projections(spec: ModelSpec, *names: str) -> dict[str, Shape]:
    inward = {f"{name}.weight": (spec.dim_att, spec.n_embd) for name in names}
    return inward | {"output.weight": (spec.n_embd, spec.dim_att)}


def _att_4(spec: ModelSpec, block: int) -> Mapping[str, Shape]:
    A, C = spec.dim_att, spec.n_embd
    vectors: dict[str, Shape] = {"time_decay": (A,), "time_first": (A,)}
    vectors |= {f"time_mix_{name}": (1, 1, C) for name in "kvr"}
    return vectors | _projections(spec, "key", "value", "receptance")


def _att_5(spec: ModelSpec, block: int) -> Mapping[str, Shape]:
    gated = spec.generation != "5.0"
    per_head = (spec.n_head, spec.head_size) if spec.generation == "5.2" else (spec.n_head,)
    shapes: dict[str, Shape] = {f"time_mix_{n}": (1, 1, spec.n_embd) for n in ("kvrg" if gated else "kvr")}
    shapes |= {"time_decay": per_head, spec.bonus_key or "time_faaaa": per_head}
    shapes |= _projections(spec, "receptance", "key", "value", *(("gate",) if gated else ()))
    return shapes | {"ln_x.weight": (spec.dim_att,), "ln_x.bias": (spec.dim_att,)}


def _att_6(spec: ModelSpec, block: int) -> Mapping[str, Shape]:
    A, C, mix, decay = spec.dim_att, spec.n_embd, spec.ranks["mix"], spec.ranks["decay"]
    shapes: dict[str, Shape] = {f"time_maa_{name}": (1, 1, C) for name in "xwkvrg"}
    shapes |= {
        "time_maa_w1": (C, 5 * mix),
        "time_maa_w2": (5, mix, C),
        "time_decay": (1, 1, A),
        "time_decay_w1": (C, decay),
        "time_decay_w2": (decay, A),
        "time_faaaa": (spec.n_head, spec.head_size),
    }
    shapes |= _projections(spec, "receptance", "key", "value", "gate")
    return shapes | {"ln_x.weight": (A,), "ln_x.bias": (A,)}


def _att_7(spec: ModelSpec, block: int) -> Mapping[str, Shape]:
    C = spec.n_embd
    shapes: dict[str, Shape] = {f"x_{name}": (1, 1, C) for name in "rwkvag"}
    for name in "wavg":
        if name == "v" and block == 0 and not spec.layer0_v:
            continue
        if name != "g":
            shapes[f"{name}0"] = (1, 1, C)
        shapes |= {f"{name}1": (C, spec.ranks[name]), f"{name}2": (spec.ranks[name], C)}
    shapes |= {"k_k": (1, 1, C), "k_a": (1, 1, C), "r_k": (spec.n_head, spec.head_size)}
    shapes |= _projections(spec, "receptance", "key", "value")
    return shapes | {"ln_x.weight": (C,), "ln_x.bias": (C,)}


def _ffn(spec: ModelSpec) -> Mapping[str, Shape]:
    C, F = spec.n_embd, spec.dim_ffn
    mixes = {"6": ("time_maa_k", "time_maa_r"), "7": ("x_k",)}
    shapes: dict[str, Shape] = dict.fromkeys(
        mixes.get(spec.generation, ("time_mix_k", "time_mix_r")), (1, 1, C)
    )
    shapes |= {"key.weight": (F, C), "value.weight": (C, F)}
    return shapes if spec.generation == "7" else shapes | {"receptance.weight": (C, C)}

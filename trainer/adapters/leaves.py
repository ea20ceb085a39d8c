"""The tensors that an adapter adds to a projection: their names, their shapes, and what they make together.

`blocks.0.att.key.lora_A` is the leaf `lora_A` of the module `blocks.0.att.key`. Which kind of adapter a
module has is told by its leaves alone. Names as RWKV-LM-LoRA, RWKV-PEFT and RWKV-LM-RLHF write them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

Kind = Literal["lora", "dora", "miss", "bat_in", "bat_out"]
# Dimensions: "r" is the rank; "out" and "in" are those of the projection's weight [out, in].
LEAVES: dict[str, tuple[str, ...]] = {
    "lora_A": ("r", "in"),
    "lora_B": ("out", "r"),
    "lora_M": ("out",),
    "disha": ("r", "out"),
    "bat_in": ("in/r", "r", "r"),
    "bat_out": ("out/r", "r", "r"),
}
KINDS: dict[Kind, frozenset[str]] = {
    "lora": frozenset({"lora_A", "lora_B"}),
    "dora": frozenset({"lora_A", "lora_B", "lora_M"}),
    "miss": frozenset({"disha"}),
    "bat_in": frozenset({"bat_in"}),
    "bat_out": frozenset({"bat_out"}),
}
STATE = "time_state"


def split(name: str) -> tuple[str, str] | None:
    """(module, leaf) of an added tensor; None for a tensor of the model itself."""
    module, _, leaf = name.rpartition(".")
    return (module, leaf) if leaf in LEAVES else None


def by_module(names: Iterable[str]) -> dict[str, frozenset[str]]:
    """module -> its leaves, in the order of the names."""
    found: dict[str, set[str]] = {}
    for name in names:
        if (parts := split(name)) is not None:
            found.setdefault(parts[0], set()).add(parts[1])
    return {module: frozenset(leaves) for module, leaves in found.items()}


def kind_of(leaves: Iterable[str]) -> Kind | None:
    """What a module with these leaves has; None for a set that means nothing."""
    wanted = frozenset(leaves)
    return next((kind for kind, names in KINDS.items() if names == wanted), None)


def sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
    """ "r", "out" and "in" from a module's leaves and their shapes; None if they contradict each other."""
    found: dict[str, int] = {}
    for leaf, shape in shapes.items():
        dims = LEAVES[leaf]
        if len(shape) != len(dims) or 0 in shape:
            return None
        for dim, size in zip(dims, shape, strict=True):
            if found.setdefault(dim, size) != size:
                return None
    return found

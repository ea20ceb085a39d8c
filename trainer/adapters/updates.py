"""What becomes of a base's tensors: its own values and the new ones, in fp32, a few rows at a time.

With W from the base (or its quantised values) and M_i what adapter i alone makes of W, at strength s_i:
W' = W + Σ s_i (M_i - W). One adapter at strength 1 gives M exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from trainer.adapters.attach import KINDS
from trainer.adapters.files import AdapterFile
from trainer.adapters.leaves import STATE, by_module, kind_of
from trainer.contract.errors import InputError
from trainer.models.checkpoint import CheckpointFile, TensorInfo, as_tensor
from trainer.models.layouts import is_projection
from trainer.models.quantised import Quant, QuantisedWeight

# The half dozen fp32 blocks that are at work at a time fit into the caches that cores share.
BLOCK_ELEMENTS = 128 * 1024
# Rows of the base, and the number of the first of them -> what an adapter makes of them.
Update = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Part:
    """An adapter with how it is added.

    Attributes:
        alpha: that its leaves are scaled by; None where nothing is.
        layers: the blocks that it may change, and nothing beside them; None for everything.
    """

    adapter: AdapterFile
    strength: float
    alpha: float | None
    layers: frozenset[int] | None

    @cached_property
    def modules(self) -> dict[str, frozenset[str]]:
        """module -> its leaves, of what may change."""
        return by_module(name for name in self.adapter.tensors if self._covers(name))

    def changes(self, name: str) -> bool:
        """Whether one of the base's tensors may come out otherwise."""
        is_replaced = name in self.adapter.tensors and self._covers(name)
        return is_replaced or name.removesuffix(".weight") in self.modules

    def update_of(self, name: str) -> Update:
        """What the adapter makes of a tensor that it changes."""
        module = name.removesuffix(".weight")
        names = self.modules.get(module)
        return self._replaced(name) if names is None else self._adapted(module, names)

    def added(self, base: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
        """Tuned states, where the base has none yet."""
        states = {name: info for name, info in self.adapter.infos.items() if name.endswith(STATE)}
        return {name: info for name, info in states.items() if name not in base and self._covers(name)}

    def _covers(self, name: str) -> bool:
        if self.layers is None:
            return True
        first, _, rest = name.partition(".")
        return first == "blocks" and int(rest.partition(".")[0]) in self.layers

    def _adapted(self, module: str, names: frozenset[str]) -> Update:
        kind = kind_of(names)
        assert kind is not None, "files are checked as they are opened"
        leaves = {leaf: self._read(f"{module}.{leaf}") for leaf in names}
        return lambda W, first: KINDS[kind].merged(W, first, leaves, self.alpha or 0.0)

    def _replaced(self, name: str) -> Update:
        """The adapter's own tensor, in the blocks that the base's comes in."""
        tensor = self.adapter.tensors[name]
        blocks: Iterator[Tensor] | None = None

        def update(W: Tensor, first: int) -> Tensor:
            nonlocal blocks
            if blocks is None:
                # A vector may lack the base's leading ones, and then its rows are others.
                whole = W.numel() == tensor.info.numel
                blocks = iter([tensor.read()]) if whole else tensor.blocks(BLOCK_ELEMENTS)
            return self._finite(name, next(blocks)).reshape(W.shape)

        return update

    def _read(self, name: str) -> Tensor:
        return self._finite(name, self.adapter.tensors[name].read())

    def _finite(self, name: str, tensor: Tensor) -> Tensor:
        tensor = tensor.float()
        if not tensor.isfinite().all():
            raise InputError("adapter_unreadable", path=str(self.adapter.path), reason=f"{name}: inf, nan")
        return tensor


@dataclass(frozen=True)
class Merged:
    """A base with adapters added.

    Attributes:
        quant: what the base's projections are quantised to before anything is added; None for its own values.
    """

    base: CheckpointFile
    parts: tuple[Part, ...]
    quant: Quant | None

    @cached_property
    def infos(self) -> dict[str, TensorInfo]:
        """The base's tensors, and behind them what is new."""
        added = {name: info for part in self.parts for name, info in part.added(self.base.infos).items()}
        return {**self.base.infos, **added}

    def is_changed(self, name: str) -> bool:
        """Whether a tensor's values may differ from the base's."""
        quantised = self.quant is not None and is_projection(name)
        return quantised or any(part.changes(name) for part in self.parts)

    def rows(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The base's values of a tensor and the new ones, fp32 [n, …], block by block."""
        updates = [(part.strength, part.update_of(name)) for part in self.parts if part.changes(name)]
        quant = self.quant if is_projection(name) else None
        first = 0
        for before in self._base_rows(name):
            W = before if quant is None else QuantisedWeight(before, quant).dense(torch.float32)
            yield before, _combined(W, first, updates)
            first += len(before)

    def _base_rows(self, name: str) -> Iterator[Tensor]:
        info = self.base.infos.get(name)
        if info is None:  # a state that starts from nothing
            yield torch.zeros(self.infos[name].shape)
            return
        for block in self.base.blocks(name, BLOCK_ELEMENTS):
            yield as_tensor(block, info.dtype).float()


def _combined(W: Tensor, first: int, updates: list[tuple[float, Update]]) -> Tensor:
    if len(updates) == 1:
        ((strength, update),) = updates
        made = update(W, first)
        return made if strength == 1.0 else torch.lerp(W, made, strength)
    wanted = W.clone()
    for strength, update in updates:
        wanted += strength * (update(W, first) - W)
    return wanted

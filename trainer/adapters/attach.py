"""Choosing what of a model is trained, putting adapters on it, and taking out what an adapter file holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainer.adapters.adapted import Adapted
from trainer.adapters.bat import BatInLinear, BatOutLinear
from trainer.adapters.dora import DoraLinear
from trainer.adapters.leaves import STATE, Kind, by_module, kind_of, sizes, split
from trainer.adapters.lora import LoraLinear
from trainer.adapters.miss import MissLinear
from trainer.adapters.pissa import PissaLinear
from trainer.contract.errors import InputError
from trainer.models.layouts import PROJECTIONS
from trainer.models.skeleton import RWKV, replace_module

# What a file's leaves make, and, by method, what is trained.
KINDS: dict[Kind, type[Adapted]] = {
    "lora": LoraLinear,
    "dora": DoraLinear,
    "miss": MissLinear,
    "bat_in": BatInLinear,
    "bat_out": BatOutLinear,
}
METHODS: dict[str, type[Adapted]] = {**KINDS, "pissa": PissaLinear}
Whole = Callable[[list[nn.Parameter]], AbstractContextManager[Any]]
_FULL_PARTS = {
    "time": re.compile(
        r"blocks\.\d+\.(att\.(x_[rwkvag]|[wav]0|k_k|k_a|r_k)|ffn\.x_k"  # 7
        r"|(att|ffn)\.time_(mix_[kvrg]|maa_[xwkvrg]|decay|first|faaaa))$"  # 4, 5 and 6
    ),
    "time_lora": re.compile(r"blocks\.\d+\.att\.([wavg]|time_maa_w|time_decay_w)[12]$"),  # 6 and 7
    "ln": re.compile(r"blocks\.\d+\.(ln[012]|att\.ln_x)\.(weight|bias)$"),
    "emb": re.compile(r"emb\.weight$"),
    "head": re.compile(r"head\.weight$"),
}


def attach(
    model: RWKV,
    method: str,
    *,
    r: int = 0,
    alpha: float = 0.0,
    dropout: float = 0.0,
    parts: Iterable[str] = (),
) -> None:
    """Freeze the model but for what the method trains.

    Args:
        method: of `METHODS`, put on the projections of the parts; "state", the states that documents start
            from; "full", every tensor.
        r, alpha, dropout: as the method's module takes them.
        parts: of `att`, `ffn` (adapted), `time` (mixing, decay and bonus vectors), `time_lora` (the low-rank
            matrices of 6 and 7), `ln` (ln0, ln1, ln2, ln_x; as in RWKV-Runner not ln_out), `emb`, `head`
            (trained in full).
    """
    model.requires_grad_(False)
    if method == "full":
        for param in model.parameters():
            train_in_full(param)
    elif method == "state":
        _attach_states(model)
    else:
        _attach_parts(model, METHODS[method], r, alpha, dropout, tuple(parts))


def _attach_parts(
    model: RWKV, method: type[Adapted], r: int, alpha: float, dropout: float, parts: tuple[str, ...]
) -> None:
    for layer, block in enumerate(model.blocks):
        for part, leaves in PROJECTIONS.items():
            for leaf in leaves if part in parts else ():
                if hasattr(getattr(block, part), leaf):
                    _adapt(model, f"blocks.{layer}.{part}.{leaf}", method, r, alpha, dropout)
    patterns = [pattern for part, pattern in _FULL_PARTS.items() if part in parts]
    for name, param in model.named_parameters():
        if any(pattern.match(name) for pattern in patterns):
            train_in_full(param)


def _adapt(model: RWKV, module: str, method: type[Adapted], r: int, alpha: float, dropout: float) -> Adapted:
    adapted = method(model.get_submodule(module), r, alpha, dropout)  # type: ignore[call-arg]
    replace_module(model, module, adapted)
    return adapted


def _attach_states(model: RWKV) -> None:
    """A trained state in every layer; zero where the base has none of its own."""
    model.add_states()
    for name, param in model.named_parameters():
        if name.endswith(STATE):
            train_in_full(param)


def train_in_full(param: nn.Parameter) -> None:
    """Make a frozen tensor trainable, as an fp32 master where the base is 16 bit."""
    param.data = param.data.to(torch.promote_types(param.dtype, torch.float32))
    param.requires_grad_(True)


def adapter_tensors(model: RWKV, whole: Whole = lambda _: nullcontext()) -> dict[str, Tensor]:
    """What an adapter file holds, on the CPU: see `adapter_parts`."""
    return {name: x.to("cpu", copy=True).contiguous() for name, x in adapter_parts(model, whole)}


def adapter_parts(model: RWKV, whole: Whole) -> Iterator[tuple[str, Tensor]]:
    """Leaves and tensors trained in full, by their names, each to be read before the next one is asked for.

    Args:
        whole: a context in which parameters can be read, for models that lie in parts on several devices.
    """
    for name, module in model.named_modules():
        trained = {key: p for key, p in module.named_parameters(name, recurse=False) if p.requires_grad}
        with whole(list(trained.values())):
            if isinstance(module, Adapted):
                yield from ((f"{name}.{leaf}", tensor) for leaf, tensor in module.leaves().items())
            else:
                yield from ((key, param.detach()) for key, param in trained.items())


class AdapterLike(Protocol):
    """What `trainer.adapters.files.read_adapter` returns."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...
    @property
    def alpha(self) -> float | None: ...
    @property
    def path(self) -> Path: ...


@torch.no_grad()
def attach_adapter(model: RWKV, adapter: AdapterLike, *, alpha: float | None = None) -> None:
    """Put an adapter on a model. A module that already has one of its kind and rank takes over the tensors.

    Args:
        adapter: already checked against the base (`trainer.adapters.files.check_fits`).
        alpha: for files that do not tell theirs.

    Raises:
        InputError: `adapter_alpha_unknown`.
    """
    if adapter.alpha is not None:
        alpha = adapter.alpha
    for module, names in by_module(adapter.tensors).items():
        leaves = {leaf: adapter.tensors[f"{module}.{leaf}"] for leaf in names}
        _load(model, module, leaves, alpha, adapter.path)
    rest = {name: tensor for name, tensor in adapter.tensors.items() if split(name) is None}
    if any(name.endswith(STATE) for name in rest):
        model.add_states()
    for name, tensor in rest.items():
        param = model.get_parameter(name)
        param.data = tensor.view(param.shape).to(device=param.device, dtype=_kept_dtype(param, tensor))


def _load(model: RWKV, module: str, leaves: Mapping[str, Tensor], alpha: float | None, path: Path) -> None:
    """Into the module as it is, or else into a new one of the leaves' kind."""
    adapted = model.get_submodule(module)
    shapes = {leaf: tuple(tensor.shape) for leaf, tensor in leaves.items()}
    if not isinstance(adapted, Adapted) or shapes != {k: v.shape for k, v in adapted.leaves().items()}:
        kind = kind_of(leaves)
        assert kind is not None, "files are checked as they are read"
        r = (sizes(shapes) or {})["r"]
        if alpha is None and "lora_A" in leaves:
            raise InputError("adapter_alpha_unknown", path=str(path), r=r)
        adapted = _adapt(model, module, KINDS[kind], r, alpha or 0.0, 0.0)
    adapted.load(leaves)


def _kept_dtype(param: nn.Parameter, tensor: Tensor) -> torch.dtype:
    # A trained vector in fp32 over a bf16 base keeps its digits.
    return torch.promote_types(param.dtype, torch.float32) if tensor.dtype == torch.float32 else param.dtype

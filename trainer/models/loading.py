"""From a checkpoint file to a model: every key accounted for, tensors straight into their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from trainer.models.checkpoint import open_checkpoint
from trainer.models.layouts import ModelSpec, is_projection, state_shapes
from trainer.models.quantised import Quant, QuantisedLinear, QuantisedWeight
from trainer.models.rwkv4 import RWKV4
from trainer.models.rwkv5 import RWKV5
from trainer.models.rwkv6 import RWKV6
from trainer.models.rwkv7 import RWKV7
from trainer.models.skeleton import RWKV, replace_module
from trainer.models.spec import detect_file

_KINDS: dict[str, type[RWKV]] = {"4": RWKV4, "5": RWKV5, "6": RWKV6, "7": RWKV7}


def build(spec: ModelSpec) -> RWKV:
    """A model of the spec's generation, with uninitialised parameters."""
    return _KINDS[spec.generation.partition(".")[0]](spec)


def load_model(
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quant: Quant | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> RWKV:
    """Build the model that a file holds; parameters are frozen and in `dtype`.

    Args:
        path: .pth or .safetensors of a base model.
        quant: of the blocks' projections, one by one as they are read; everything else is in `dtype`.
        on_progress: called with (tensors done, tensors in all).

    Raises:
        InputError: the file is not one that we can train, by what it is, or a tensor is missing.
    """
    file = open_checkpoint(path)
    spec = detect_file(file)
    with torch.device("meta"):
        model = build(spec)
        if state_shapes(spec).keys() & file.infos.keys():
            model.add_states()
    tensors = {}
    for done, name in enumerate(file.infos, 1):
        if quant is not None and is_projection(name):
            weight = QuantisedWeight(file.tensor(name).to(device), quant)
            replace_module(model, name.removesuffix(".weight"), QuantisedLinear(weight))
        else:
            # Some 5.0 and 5.1 files keep one value per head as [H, 1].
            shape = model.get_parameter(name).shape
            tensors[name] = file.tensor(name).view(shape).to(device=device, dtype=dtype)
        if on_progress is not None:
            on_progress(done, len(file.infos))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.compute_dtype = dtype
    return model.requires_grad_(False)

"""From a checkpoint file to a model: every key accounted for, tensors straight into their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from trainer.models.checkpoint import open_checkpoint
from trainer.models.layouts import ModelSpec
from trainer.models.rwkv4 import RWKV4
from trainer.models.rwkv5 import RWKV5
from trainer.models.rwkv6 import RWKV6
from trainer.models.rwkv7 import RWKV7
from trainer.models.skeleton import RWKV
from trainer.models.spec import detect_file, require_trainable

_KINDS: dict[str, type[RWKV]] = {"4": RWKV4, "5": RWKV5, "6": RWKV6, "7": RWKV7}


def build(spec: ModelSpec) -> RWKV:
    """A model of the spec's generation, with uninitialised parameters."""
    return _KINDS[spec.generation.partition(".")[0]](spec)


def load_model(
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    on_progress: Callable[[int, int], object] | None = None,
) -> RWKV:
    """Build the model that a file holds; parameters are frozen and in `dtype`.

    Args:
        path: .pth or .safetensors of a base model.
        on_progress: called with (tensors done, tensors in all).

    Raises:
        InputError: the file is not one that we can train, by what it is, or a tensor is missing.
    """
    file = open_checkpoint(path)
    spec = detect_file(file)
    require_trainable(spec, path)
    with torch.device("meta"):
        model = build(spec)
    tensors = {}
    for done, name in enumerate(file.infos, 1):
        # Some 5.0 and 5.1 files keep one value per head as [H, 1].
        shape = model.get_parameter(name).shape
        tensors[name] = file.tensor(name).view(shape).to(device=device, dtype=dtype)
        if on_progress is not None:
            on_progress(done, len(file.infos))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.compute_dtype = dtype
    return model.requires_grad_(False)

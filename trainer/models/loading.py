"""From a checkpoint file to a model: every key accounted for, tensors straight into their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from trainer.models.checkpoint import open_checkpoint
from trainer.models.rwkv7 import RWKV7
from trainer.models.spec import detect_file, require_trainable


def load_model(
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    on_progress: Callable[[int, int], object] | None = None,
) -> RWKV7:
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
        model = RWKV7(spec)
    tensors = {}
    for done, name in enumerate(file.infos, 1):
        tensors[name] = file.tensor(name).to(device=device, dtype=dtype)
        if on_progress is not None:
            on_progress(done, len(file.infos))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.compute_dtype = dtype
    return model.requires_grad_(False)

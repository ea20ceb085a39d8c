"""Giving a loaded adapter another rank, so that training goes on with more or fewer parameters.

LoRA: a larger rank adds columns of zeros to B (and new random rows to A, without which B would get no
gradient), so the model stays what it was. A smaller one keeps the largest singular values of B A, the best
approximation of that rank (Eckart and Young). alpha stays, so B takes up the changed alpha / r.
MiSS: row j of the new matrix is the mean of what columns j, j + r, j + 2r, … of the weight got, the nearest
in least squares; exact where the new rank is a multiple of the old one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.adapters.files import Adapter
from trainer.adapters.leaves import by_module, kind_of, split
from trainer.contract.errors import InputError
from trainer.models.checkpoint import TensorInfo

# Of what a module changes: the part that is lost, and all of it, as sums of squares.
Squares = tuple[float, float]


def resized(adapter: Adapter, r: int, base: Mapping[str, TensorInfo], seed: int = 0) -> tuple[Adapter, float]:
    """The adapter at rank r, and the share of its change that was lost, |lost| / |all|.

    Args:
        base: the base's tensors, for their shapes. seed: of A's new rows.

    A PiSSA becomes the LoRA that it is as a file. Tuned states and tensors trained in full have no rank.

    Raises:
        InputError: `adapter_resize`, the kind of adapter has no other ranks.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: tensor for name, tensor in adapter.tensors.items() if split(name) is None}
    lost = total = 0.0
    for module, names in by_module(adapter.tensors).items():
        leaves = {leaf: adapter.tensors[f"{module}.{leaf}"] for leaf in names}
        kind = kind_of(names)
        if kind in ("lora", "dora"):
            A, B, parts = _lora(leaves["lora_A"].double(), leaves["lora_B"].double(), r, generator)
            leaves |= {"lora_A": A, "lora_B": B}
        elif kind == "miss":
            columns = base[f"{module}.weight"].shape[1]
            leaves["disha"], parts = _miss(leaves["disha"].double(), r, columns)
        else:
            raise InputError("adapter_resize", path=str(adapter.path), method=kind)
        tensors |= {f"{module}.{leaf}": leaf_tensor.float() for leaf, leaf_tensor in leaves.items()}
        lost, total = lost + parts[0], total + parts[1]
    meta = adapter.meta
    if meta is not None and meta.r is not None:
        method = "lora" if meta.method == "pissa" else meta.method
        meta = meta.model_copy(update={"method": method, "r": r})
    return replace(adapter, tensors=tensors, meta=meta), math.sqrt(lost / total) if total else 0.0


def _lora(A: Tensor, B: Tensor, r: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Squares]:
    """A [r, in] and B [out, r]."""
    old = len(A)
    if r >= old:
        # As LoRA begins: uniform within ±1/√in.
        rows = torch.rand(r - old, A.shape[1], generator=generator, dtype=A.dtype) * 2 - 1
        total = ((B.t() @ B) * (A @ A.t())).sum().item() / old**2
        return torch.cat((A, rows / math.sqrt(A.shape[1]))), F.pad(B, (0, r - old)) * (r / old), (0.0, total)
    Q_out, R_out = torch.linalg.qr(B)
    Q_in, R_in = torch.linalg.qr(A.t())
    U, S, Vh = torch.linalg.svd(R_out @ R_in.t())
    root, squares = S[:r].sqrt(), S.square() / old**2
    A, B = (root.unsqueeze(1) * Vh[:r]) @ Q_in.t(), Q_out @ (U[:, :r] * root) * (r / old)
    # There are fewer singular values than r where a side of the weight is shorter.
    A, B = F.pad(A, (0, 0, 0, r - len(A))), F.pad(B, (0, r - B.shape[1]))
    return A, B, (squares[r:].sum().item(), squares.sum().item())


def _miss(D: Tensor, r: int, columns: int) -> tuple[Tensor, Squares]:
    """D [r, out]."""
    before = D[torch.arange(columns) % len(D)]
    group = torch.arange(columns) % r
    new = D.new_zeros(r, D.shape[1]).index_add_(0, group, before)
    new /= torch.bincount(group, minlength=r).clamp_min(1).unsqueeze(1)
    return new, ((new[group] - before).square().sum().item(), before.square().sum().item())

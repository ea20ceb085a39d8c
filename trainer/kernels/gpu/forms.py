"""The recurrences by Triton kernels: RWKV-5, 6 and 7 from one template.

fp32 inputs are multiplied in fp32, 16-bit inputs in TF32; sums, decays, states and the inverse are fp32 in
either case.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.kernels.chunks import CHUNK, chunk_count
from trainer.kernels.native.build import NativeUnavailableError
from trainer.kernels.wkv7 import wkv7_chunked
from trainer.kernels.wkv56 import wkv56_chunked

# Heads that the kernels are made for; smaller ones are filled up with zeros.
_HEAD_SIZES = (16, 32, 64)
SCAN_ROWS = 16
WARPS = 8
# How 16-bit inputs are multiplied, and how fp32 ones.
PRECISIONS = ("tf32", "ieee")

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Form:
    """A generation's kernels, and whether a chunk's map is diagonal."""

    maps: str
    gradients: str
    is_diagonal: bool


_WKV7 = _Form("wkv7_maps", "wkv7_gradients", is_diagonal=False)
_WKV56 = _Form("wkv56_maps", "wkv56_gradients", is_diagonal=True)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What a launch is told, from v [B, T, H, N]."""

    B: int
    T: int
    H: int
    N: int
    precision: str

    @classmethod
    def of(cls, v: Tensor) -> _Sizes:
        B, T, H, N = v.shape
        return cls(B, T, H, N, PRECISIONS[v.dtype == torch.float32])

    @property
    def grid(self) -> tuple[int, int]:
        return chunk_count(self.T), self.B * self.H

    @property
    def constants(self) -> dict[str, Any]:
        return {"C": CHUNK, "N": self.N, "P": self.precision, "num_warps": WARPS}


@lru_cache
def _triton() -> SimpleNamespace | NativeUnavailableError:
    """The kernels, or why there are none; found out and logged once."""
    if find_spec("triton") is None:
        error = NativeUnavailableError("triton is not installed")
        _LOG.warning("recurrences run in PyTorch, slower than in Triton: %s", error)
        return error
    from trainer.kernels.gpu import states, wkv4_scan, wkv7_chunks, wkv56_chunks

    modules = (states, wkv4_scan, wkv7_chunks, wkv56_chunks)
    return SimpleNamespace(**{name: value for module in modules for name, value in vars(module).items()})


def kernels_for(tensor: Tensor) -> SimpleNamespace:
    """The kernels by their names.

    Raises:
        NativeUnavailableError: they cannot run on the tensor.
    """
    if not _runs_on(tensor.device):
        raise NativeUnavailableError(f"the tensors are on {tensor.device}")
    if isinstance(kernels := _triton(), NativeUnavailableError):
        raise kernels
    return kernels


def _runs_on(device: torch.device) -> bool:
    return device.type == "cuda"


class _Wkv(torch.autograd.Function):
    """Inputs [B, T, H, N] with r first and v fourth, then what else the form takes; all contiguous."""

    @staticmethod
    def forward(
        ctx: Any, form: _Form, initial: Tensor, keep: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        sizes = _Sizes.of(inputs[3])
        M, G, R, Y = _maps(form, sizes, inputs, whole=True)
        S, final = _scan(form, sizes, M, G, initial, keep, reverse=False)
        y = torch.empty_like(inputs[3])
        kernels_for(y).read[sizes.grid](R, Y, S, y, sizes.T, sizes.H, **sizes.constants)
        ctx.form = form
        ctx.save_for_backward(keep, S, *inputs)
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        keep, S, *inputs = ctx.saved_tensors
        form, sizes, kernels = ctx.form, _Sizes.of(inputs[3]), kernels_for(S)
        dy, dfinal = grads
        dy = torch.zeros_like(inputs[3]) if dy is None else dy.contiguous()
        dfinal = S.new_zeros(S[:, 0].shape) if dfinal is None else dfinal.contiguous()
        M, _, R, _ = _maps(form, sizes, inputs, whole=False)
        E = torch.empty_like(S)
        kernels.read_backward[sizes.grid](R, dy, E, sizes.T, sizes.H, **sizes.constants)
        D, dinitial = _scan(form, sizes, M, E, dfinal, keep, reverse=True)
        out = [torch.empty_like(x) for x in inputs]
        if form is _WKV56:  # u belongs to a head; each chunk gives a part of its gradient
            out[4] = S.new_empty(*S.shape[:2], sizes.N)
        gradients = getattr(kernels, form.gradients)
        gradients[sizes.grid](*inputs, dy, S, D, *out, sizes.T, sizes.H, **sizes.constants)
        if form is _WKV56:
            out[4] = out[4].view(sizes.B, sizes.H, -1, sizes.N).sum((0, 2)).to(inputs[4].dtype)
        return None, dinitial, None, *out


def _maps(form: _Form, sizes: _Sizes, inputs: Sequence[Tensor], *, whole: bool) -> tuple[Tensor, ...]:
    """M, G, R and Y of all chunks; G and Y are empty where the maps are not wanted whole."""
    (chunks, BH), N, like = sizes.grid, sizes.N, inputs[3]
    M = like.new_empty(BH, chunks, *((N,) if form.is_diagonal else (N, N)), dtype=torch.float32)
    G = like.new_empty((BH, chunks, N, N) if whole else (0,), dtype=torch.float32)
    R = torch.empty_like(like, dtype=torch.float32)
    Y = torch.empty_like(R) if whole else G
    maps = getattr(kernels_for(like), form.maps)
    maps[sizes.grid](*inputs, M, G, R, Y, sizes.T, sizes.H, ALL=whole, **sizes.constants)
    return M, G, R, Y


def _scan(
    form: _Form, sizes: _Sizes, M: Tensor, G: Tensor, first: Tensor, keep: Tensor, *, reverse: bool
) -> tuple[Tensor, Tensor]:
    """What enters each chunk, coming from `first`, and what leaves the last of them."""
    (chunks, BH), N = sizes.grid, sizes.N
    S, last = torch.empty_like(G), torch.empty_like(first)
    kernels_for(G).scan[(BH, N // SCAN_ROWS)](
        M, G, first, S, last, keep, chunks, sizes.H, ROWS=SCAN_ROWS, N=N, DIAGONAL=form.is_diagonal,
        REVERSE=reverse, P=sizes.precision, num_warps=WARPS,
    )  # fmt: skip
    return S, last


def _run(
    form: _Form, inputs: list[Tensor], state: Tensor | None, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    B, T, H, N = inputs[3].shape
    size = next(size for size in _HEAD_SIZES if size >= N)
    inputs = [F.pad(x, (0, size - N)).contiguous() for x in inputs]
    if state is None:
        initial = inputs[0].new_zeros(B * H, size, size, dtype=torch.float32)
    else:
        initial = F.pad(state.float(), (0, size - N, 0, size - N)).reshape(B * H, size, size).contiguous()
    y, final = _Wkv.apply(form, initial, kept_chunks(resets, B, T, initial.device), *inputs)
    return y[..., :N], final.view(B, H, size, size)[..., :N, :N]


def kept_chunks(resets: Tensor | None, B: int, T: int, device: torch.device) -> Tensor:
    """uint8 [B, chunks]: 0 where a document starts with the chunk."""
    if resets is None:
        return torch.ones(B, chunk_count(T), dtype=torch.uint8, device=device)
    return (~resets).to(torch.uint8).contiguous()


def _suits(x: Tensor) -> bool:
    return x.dtype != torch.float64 and x.shape[-1] <= _HEAD_SIZES[-1]


def wkv7_triton(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor,
    state: Tensor | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The recurrence of `wkv7_reference`, parallel over chunks of 16 tokens.

    float64 and heads above 128 channels go through `wkv7_chunked`.

    Raises:
        NativeUnavailableError: Triton is not installed, or the tensors are on no GPU.
    """
    kernels_for(r)
    if not _suits(r):
        return wkv7_chunked(r, log_w, k, v, a, b, state, resets)
    return _run(_WKV7, [r, log_w, k, v, a, b], state, resets)


def wkv56_triton(
    r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, u: Tensor,
    state: Tensor | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The recurrence of `wkv56_reference`, as `wkv7_triton`."""
    kernels_for(r)
    if not _suits(r):
        return wkv56_chunked(r, log_w, k, v, u, state, resets)
    turned = None if state is None else state.transpose(-1, -2)  # the kernels have rows of v
    y, final = _run(_WKV56, [r, log_w.expand(r.shape), k, v, u], turned, resets)
    return y, final.transpose(-1, -2)

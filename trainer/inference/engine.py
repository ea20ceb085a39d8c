"""The model behind an answer: the package `rwkv`, or this project's own RWKV (for adapters not merged)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.contract.errors import AppError, InputError

if TYPE_CHECKING:
    import torch

State = Any
"""Whatever an engine carries from token to token; None is the state before the first one."""


class Engine(Protocol):
    """A model that reads tokens."""

    vocab_size: int
    generation: str
    device: str

    def forward(self, tokens: Sequence[int], state: State) -> tuple[NDArray[np.float32], State]:
        """Read tokens, at least one.

        Returns:
            The logits after the last of them, [V], and the new state. The given state stays valid.
        """
        ...

    def state_bytes(self, state: State) -> int:
        """Memory that a state takes."""
        ...

    def last_hidden(self, state: State) -> NDArray[np.float32]:
        """What the last block's channel mixing was given at the last token, float32 [C]."""
        ...


class PackageEngine:
    """The package `rwkv`. It reads its environment at import and keeps dtype and device in module globals,
    so a process runs either RWKV-7 or older generations, on one device in one dtype.

    Args:
        path: a `.pth`.
        generation: "7" or an older one, from the file.
        strategy: the package's words, like "cpu fp32" or "cuda bf16".
        vocab_size: rows of the file's head.

    Raises:
        AppError: `package_missing`; `internal`, the process already runs another generation or strategy.
    """

    _process_uses: tuple[bool, str] | None = None

    def __init__(self, path: Path, generation: str, strategy: str, vocab_size: int) -> None:
        self.generation = generation
        self.vocab_size = vocab_size
        self.device = strategy.split(" ")[0]
        uses = (generation == "7", strategy)
        if PackageEngine._process_uses not in (None, uses):
            raise AppError("internal", detail="one process runs one kind of model in the package rwkv")
        model_class = _package_class(seven=uses[0])
        # The package appends .pth by itself; it prints as it loads, and stdout is not its to print on.
        with contextlib.redirect_stdout(sys.stderr), _ignoring_deprecations():
            self._model = model_class(model=str(path.with_suffix("")), strategy=strategy)
        PackageEngine._process_uses = uses

    def forward(self, tokens: Sequence[int], state: State) -> tuple[NDArray[np.float32], State]:
        before = None if state is None else list(state)  # the package writes into the list
        with _ignoring_deprecations():
            logits, after = self._model.forward(list(tokens), before)
        if len(tokens) > 1:
            # These are views of the whole sequence's activations, which would live as long as the state.
            after = [tensor.clone() for tensor in after]
        return logits.float().cpu().numpy(), after

    def state_bytes(self, state: State) -> int:
        return sum(tensor.nbytes for tensor in state)

    def last_hidden(self, state: State) -> NDArray[np.float32]:
        # In every generation of the package a layer's last tensor is its channel mixing's token shift.
        return state[-1].float().cpu().numpy().reshape(-1)


def _package_class(*, seven: bool) -> Any:
    """The package's class for RWKV-7 or for the older generations."""
    if "rwkv.model" not in sys.modules:
        os.environ["RWKV_V7_ON"] = "1" if seven else "0"
        os.environ["RWKV_JIT_ON"] = "1"
        os.environ["RWKV_CUDA_ON"] = "0"  # its kernels would be compiled here, which needs a CUDA toolkit
    try:
        with contextlib.redirect_stdout(sys.stderr), _ignoring_deprecations():
            from rwkv import model
    except ImportError as error:
        raise AppError("package_missing", package="rwkv") from error
    if hasattr(model, "RWKV_x070") != seven:
        raise AppError("internal", detail="the package rwkv was loaded for another generation")
    return model.RWKV


@contextlib.contextmanager
def _ignoring_deprecations() -> Iterator[None]:
    # The package uses torch.jit, which newer versions of torch announce the end of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


class NativeEngine:
    """This project's RWKV, as trained: LoRA layers stay beside the weights that they change.

    Args:
        model: `trainer.models.skeleton.RWKV`; put into evaluation mode for each call only, so that it may be
            one that is being trained.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.generation = str(model.spec.generation)
        self.vocab_size = int(model.spec.vocab_size)
        self.device = _device_of(model).type

    def forward(self, tokens: Sequence[int], state: State) -> tuple[NDArray[np.float32], State]:
        import torch

        training = self._model.training
        if training:
            self._model.eval()
        try:
            # Not inference_mode: what a kernel caches on its first call must serve training afterwards.
            with torch.no_grad():
                ids = torch.tensor([list(tokens)], dtype=torch.int64, device=_device_of(self._model))
                hidden, after = self._model(ids, state)
                logits = self._model.logits(hidden[:, -1:])[0, -1]
        finally:
            if training:
                self._model.train()
        return logits.float().cpu().numpy(), [_compact(layer) for layer in after]

    def state_bytes(self, state: State) -> int:
        return sum(t.nbytes for layer in state for t in (layer.att_x, layer.wkv, layer.ffn_x))

    def last_hidden(self, state: State) -> NDArray[np.float32]:
        return state[-1].ffn_x.float().cpu().numpy().reshape(-1)


def _compact(layer: Any) -> Any:
    """The layer's state without the sequence's activations, which the token shift's vectors are views of, and
    without the padding of heads in which a back end may have computed."""
    return dataclasses.replace(
        layer, att_x=layer.att_x.clone(), ffn_x=layer.ffn_x.clone(), wkv=layer.wkv.contiguous()
    )


def _device_of(model: Any) -> torch.device:
    return next(model.parameters()).device


def choose_device(device: str = "auto", precision: str = "auto") -> tuple[str, str]:
    """Where and in which dtype to run.

    Args:
        device: "auto", "cpu" or "cuda".
        precision: "auto", "fp32", "fp16" or "bf16". On the CPU "auto" is fp32: half precision is many times
            slower there.

    Raises:
        AppError: `torch_missing`; `device_unavailable`, there is no such device.
    """
    try:
        import torch
    except ImportError as error:
        raise AppError("torch_missing") from error
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise AppError("device_unavailable", device=device)
    chosen = ("cuda" if has_cuda else "cpu") if device == "auto" else device
    if precision != "auto":
        return chosen, precision
    if chosen == "cpu":
        return chosen, "fp32"
    return chosen, "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"


def open_engine(
    model: Path,
    adapter: Path | None = None,
    *,
    state: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    alpha: float | None = None,
) -> Engine:
    """Load a model, with an adapter beside it if one is given.

    The package `rwkv` runs plain `.pth` files; adapters and `.safetensors` run on this project's own model.

    Args:
        model: a base or merged model.
        adapter: an adapter of it.
        state: tuned states that every text begins with.
        device, precision: see `choose_device`.
        alpha: of an adapter without metadata.

    Raises:
        InputError: the file cannot be used, by what it is (`model_*`, `adapter_*`, `state_not_state`).
        AppError: see `choose_device`.
    """
    from trainer.models.checkpoint import open_checkpoint
    from trainer.models.spec import detect

    spec = detect(open_checkpoint(model).infos, model)
    chosen, dtype = choose_device(device, precision)
    if adapter is None and state is None and model.suffix == ".pth":
        return PackageEngine(model, spec.generation, f"{chosen} {dtype}", spec.vocab_size)
    return NativeEngine(_native_model(model, adapter, state, chosen, dtype, alpha))


def _native_model(
    path: Path, adapter: Path | None, state: Path | None, device: str, precision: str, alpha: float | None
) -> Any:
    import torch

    from trainer.models.loading import load_model

    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    model = load_model(path, dtype=dtype, device=device)
    # A state given as such has the last word, also over one that the adapter holds.
    for extra in (adapter, state):
        if extra is not None:
            _mount(model, path, extra, alpha, only_state=extra is state)
    return model.eval()


def _mount(model: Any, base: Path, path: Path, alpha: float | None, *, only_state: bool) -> None:
    from trainer.adapters.attach import attach_adapter
    from trainer.adapters.files import check_fits, open_adapter
    from trainer.models.checkpoint import open_checkpoint

    found = open_adapter(path)
    if only_state and found.writer != "state" and found.method != "state":
        raise InputError("state_not_state", path=str(path))
    check_fits(found, open_checkpoint(base).infos, base)
    attach_adapter(model, found.load(), alpha=alpha)

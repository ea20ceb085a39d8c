"""Whether a merged file says what base + adapter say: logits by the package `rwkv` and by our own model."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from trainer.adapters import package_logits
from trainer.adapters.attach import attach_adapter
from trainer.adapters.files import AdapterFile
from trainer.contract.errors import AppError, Problem
from trainer.models.layouts import ModelSpec
from trainer.models.loading import load_model
from trainer.models.quantised import Quant
from trainer.models.skeleton import RWKV

# Both compute in fp32 from the same weights; what differs is the order of sums.
PACKAGE_TOLERANCE = 1e-4
# fp32 weights of the model, the package's copies while it loads, and room for the rest of the machine.
_MEMORY_FACTOR = 3
_PROMPT = (33, 155, 4811, 11, 308, 47, 22590, 100, 261, 10, 36786, 59)
_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class LogitsCheck:
    """Largest differences of the last token's logits, relative to the largest logit.

    Attributes:
        package: merged file, our model against the package `rwkv`.
        base_and_adapter: merged file against base + adapter: what rounding changed; None where no single
            adapter as it is makes the merged model.
    """

    package: float
    base_and_adapter: float | None


def compare_logits(
    merged: Path,
    base: Path,
    adapter: AdapterFile | None,
    spec: ModelSpec,
    alpha: float | None,
    quant: Quant | None,
    check_stop: Callable[[], None],
) -> LogitsCheck | Problem:
    """Run a short prompt through the merged file and through base + adapter, in fp32 on the CPU.

    Args:
        adapter: the only one, added whole; None for anything else.
        alpha: for an adapter that does not tell it. quant: of the base, if the adapter was added to that.

    Returns:
        The differences, or the warning `merge_verify_skipped` with what stood in the way.

    Raises:
        AppError: `merge_verify_failed`, the package answers otherwise than our model.
    """
    needed = _MEMORY_FACTOR * 4 * spec.parameters
    if importlib.util.find_spec("rwkv") is None:
        return Problem("merge_verify_skipped", {"reason": "pip install rwkv"})
    if psutil.virtual_memory().available < needed:
        return Problem("merge_verify_skipped", {"reason": f"RAM < {needed / 1e9:.1f} GB"})
    tokens = [token % spec.vocab_size for token in _PROMPT]
    by_package = _package_logits(merged, spec.generation, tokens, check_stop)
    by_merged = _own_logits(load_model(merged), tokens)
    check_stop()
    by_both = None
    if adapter is not None:
        both = load_model(base, quant=quant)
        attach_adapter(both, adapter.load(), alpha=alpha)
        by_both = _own_logits(both, tokens)
    from_both = None if by_both is None else _difference(by_merged, by_both)
    check = LogitsCheck(_difference(by_package, by_merged), from_both)
    if not check.package <= PACKAGE_TOLERANCE:
        raise AppError("merge_verify_failed", tensor=f"logits, {check.package:.1e}")
    return check


def _difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).item()


def _package_logits(
    merged: Path, generation: str, tokens: list[int], check_stop: Callable[[], None]
) -> Tensor:
    """Logits [V] by the package, in a process of its own: it is configured by environment variables."""
    # By its path, so that it starts whatever the working folder; it imports nothing of this package.
    command = [
        sys.executable, package_logits.__file__, str(merged.resolve()), generation, json.dumps(tokens)
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    deadline_s = time.monotonic() + _TIMEOUT_S
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                check_stop()
                if time.monotonic() > deadline_s:
                    raise AppError("merge_verify_failed", tensor="rwkv, timeout") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines() or [f"exit {process.returncode}"]
        raise AppError("merge_verify_failed", tensor=f"rwkv: {lines[-1][:200]}")
    return torch.tensor(json.loads(output.splitlines()[-1]), dtype=torch.float32)


@torch.no_grad()
def _own_logits(model: RWKV, tokens: list[int]) -> Tensor:
    hidden, _ = model.eval()(torch.tensor([tokens]))
    return model.logits(hidden[:, -1:])[0, -1].float()

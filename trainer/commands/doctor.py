"""`rwkv-trainer doctor`: whether this environment can train, shown by doing a little of everything."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from trainer.commands.output import EXIT_DONE, EXIT_FAILED, open_output
from trainer.contract.errors import AppError
from trainer.contract.folders import cache_folder

_PYTHON = ((3, 10), (3, 14))
_PACKAGES = (
    "torch", "pytorch-lightning", "rwkv", "numpy", "pydantic", "tokenizers", "safetensors",
    "pyrwkv-tokenizer", "fastapi", "uvicorn", "sse-starlette",
)  # fmt: skip
_SMALLEST_VOCAB = 64


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check."""

    id: str
    ok: bool
    detail: str


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("doctor", help="check that this environment can train")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    output = open_output()
    results = []
    for name, check in CHECKS.items():
        result = _outcome(name, check)
        results.append(result)
        if not args.json:
            mark = "ok  " if result.ok else "FAIL"
            output.stdout.write(f"{mark} {result.id}: {result.detail}\n".encode())
    ok = all(result.ok for result in results)
    if args.json:
        output.result({"ok": ok, "checks": [asdict(result) for result in results]})
    return EXIT_DONE if ok else EXIT_FAILED


def _outcome(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except AppError as error:
        return Check(name, False, str(error))
    except Exception as error:  # noqa: BLE001 - whatever is broken here is the finding
        return Check(name, False, f"{type(error).__name__}: {error}")


def _python() -> str:
    if not _PYTHON[0] <= sys.version_info[:2] < _PYTHON[1]:
        raise RuntimeError(f"Python {platform.python_version()} is not one of 3.10 to 3.13")
    return f"Python {platform.python_version()}, {sys.executable}"


def _packages() -> str:
    versions, missing = [], []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise AppError("package_missing", package=", ".join(missing))
    return ", ".join(versions)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise AppError("torch_missing") from error
    return torch


def _device() -> str:
    torch = _torch()
    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads"
    major, minor = torch.cuda.get_device_capability()
    memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    bf16 = "bf16" if (major, minor) >= (8, 0) else "no bf16"
    return f"{torch.cuda.get_device_name()}, {memory_gib:.0f} GiB, capability {major}.{minor}, {bf16}"


def _kernels() -> str:
    torch = _torch()
    from trainer.kernels.dispatch import OPERATIONS, TOLERANCE, choose, self_test

    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = []
    for operation in OPERATIONS:
        errors = ", ".join(f"{name} {error:.1e}" for name, error in self_test(operation, device))
        found.append(f"{operation}: {choose(operation, device)[0]} is used ({errors})")
    return f"relative errors against float64 (limit {TOLERANCE:.0e}): {'; '.join(found)}"


def _tokenizer() -> str:
    from trainer.data.tokenizers import load_tokenizer
    from trainer.data.vocabulary import WORLD_VOCAB_SHA256

    tokenizer = load_tokenizer(None)
    if tokenizer.sha256 != WORLD_VOCAB_SHA256:
        raise RuntimeError(f"the World vocabulary has the hash {tokenizer.sha256}")
    sample = "Hello, 世界!\n\n"
    if tokenizer.decode(tokenizer.encode(sample)) != sample:
        raise RuntimeError("text does not survive encoding and decoding")
    return f"World vocabulary, {tokenizer.vocab_size} tokens, sha256 {tokenizer.sha256[:12]}…"


def _training_step() -> str:
    """Optimizer steps on a tiny random model: the loss on one batch must fall, and stay a number."""
    torch = _torch()
    from trainer.adapters.attach import attach
    from trainer.models.initial import initialise
    from trainer.models.layouts import ModelSpec
    from trainer.models.rwkv7 import RWKV7
    from trainer.training.head_loss import head_cross_entropy

    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec = ModelSpec(
        generation="7", n_layer=2, n_embd=32, dim_att=32, dim_ffn=64, vocab_size=_SMALLEST_VOCAB,
        head_size=16, n_head=2, ranks=dict.fromkeys("wavg", 8), layer0_v=True,
    )  # fmt: skip
    model = initialise(RWKV7(spec), seed=0).to(device).requires_grad_(False)
    attach(model, "lora", r=4, alpha=8.0, dropout=0.0, parts=("att", "ffn"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    tokens = torch.arange(33, device=device).view(1, 33) % _SMALLEST_VOCAB
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        hidden, _state = model(tokens[:, :-1])
        loss = head_cross_entropy(hidden[0], model.head.weight, tokens[0, 1:]) / 32
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if not losses[-1] < losses[0]:
        raise RuntimeError(f"the loss did not fall: {losses}")
    return f"loss {losses[0]:.3f} → {losses[-1]:.3f} in {len(losses)} steps on {device}"


def _cache_folder() -> str:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise AppError("not_writable", path=str(folder), reason=error.strerror or str(error)) from error
    return f"{folder} is writable"


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "packages": _packages,
    "device": _device,
    "kernels": _kernels,
    "tokenizer": _tokenizer,
    "training_step": _training_step,
    "cache_folder": _cache_folder,
}

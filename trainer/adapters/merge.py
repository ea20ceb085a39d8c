"""Merging an adapter into its base: fp32 arithmetic, one rounding, a few megabytes at a time.

Each kind of adapter says what becomes of a weight's rows; tensors that were trained in full replace the
base's. The base's key order and element types stay, so that every tool that reads the base reads the merged
model. Tuned states follow behind its keys, where tools of RWKV-5 and 6 look for them.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from trainer.adapters.attach import KINDS
from trainer.adapters.files import AdapterFile, check_fits, open_adapter
from trainer.adapters.leaves import STATE, by_module, kind_of
from trainer.adapters.logits import LogitsCheck, compare_logits
from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import AppError, InputError, Problem
from trainer.contract.files import disk_error, fsync_folder
from trainer.models.checkpoint import CheckpointFile, TensorInfo, as_tensor, open_checkpoint
from trainer.models.layouts import is_projection, optional_shapes
from trainer.models.pth_writer import PthWriter, TensorPlan
from trainer.models.quantised import Quant, QuantisedWeight
from trainer.models.spec import ModelSpec, detect_file
from trainer.models.stored import DTYPES

BLOCK_ELEMENTS = 1024 * 1024
OUTPUT_DTYPES = ("bf16", "fp16", "fp32")
_SPARE_BYTES = 4 * 1024 * 1024

Progress = Callable[[str, int, int], None]


class MergeStoppedError(Exception):
    """The caller asked to stop; nothing was left behind."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did.

    Attributes:
        output_bytes: size of the merged file.
        tensors: in the file; `changed`: those that differ from the base's.
        alpha: that was used; None where nothing is scaled by it.
        quant: of the weights that the adapter was added to; None for the base's own.
        lost_share: norm of what rounding took, |(W' - W) - update| / |update|, over all touched tensors.
        max_change: the largest |W' - W| of any element.
        logits: how far the logits of the merged model are from others; None if they were not compared.
        warnings: what a person should know.
    """

    output: Path
    output_bytes: int
    tensors: int
    changed: int
    lora_matrices: int
    alpha: float | None
    quant: str | None
    dtype: str
    lost_share: float
    max_change: float
    seconds: float
    logits: LogitsCheck | None
    warnings: tuple[Problem, ...]


@dataclass(slots=True)
class _Tally:
    """Sums over the elements that the adapter touches."""

    update: float = 0.0
    lost: float = 0.0
    max_change: float = 0.0
    changed: set[str] = field(default_factory=set)

    def add(self, name: str, before: Tensor, wanted: Tensor, after: Tensor) -> None:
        """All fp32, of one block: the base's values, the exact new ones, the rounded new ones."""
        change, update = after - before, wanted - before
        self.max_change = max(self.max_change, change.abs().max().item())
        if change.any():
            self.changed.add(name)
        self.update += update.square().sum(dtype=torch.float64).item()
        self.lost += (change - update).square().sum(dtype=torch.float64).item()

    @property
    def lost_share(self) -> float:
        return math.sqrt(self.lost / self.update) if self.update else 0.0


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that was decided before the first byte is written."""

    base: CheckpointFile
    spec: ModelSpec
    adapter: AdapterFile
    alpha: float | None
    quant: Quant | None
    plan: dict[str, TensorPlan]
    modules: dict[str, frozenset[str]]
    warnings: tuple[Problem, ...]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.plan.values())


def merge(
    base: str | os.PathLike[str],
    adapter: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    dtype: str | None = None,
    onto_quantised: bool = False,
    verify: bool = True,
    on_progress: Progress | None = None,
    on_warning: Callable[[Problem], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> MergeReport:
    """Write the merged model as a new .pth; it appears whole and checked, or not at all.

    Args:
        base: .pth or .safetensors. adapter: ours or another RWKV trainer's LoRA.
        output: must not exist.
        alpha: of training, for files without metadata; the metadata wins where there is any.
        dtype: "bf16", "fp16" or "fp32" for all tensors; None keeps each tensor's own.
        onto_quantised: for an adapter of a quantised base: add it to those weights, decoded, which gives the
            very model that was trained, and not to the base's own.
        verify: compare logits with the package `rwkv` and with base + adapter where memory allows. That every
            tensor reads back as it was written is always checked.
        on_progress: called with "merging" or "verifying", bytes done, bytes in all.
        should_stop: asked after every block.

    Raises:
        InputError: the base, the adapter, their fit, `adapter_alpha_unknown`, `merge_output_exists`,
            `merge_state` (a tuned state of a generation whose tools keep it in a file of its own).
        AppError: `disk_full`, `not_writable`, `merge_verify_failed`.
        MergeStoppedError: `should_stop` said so.
    """
    started_s = time.monotonic()
    output = Path(output)
    tick = _Ticker(on_progress, should_stop)
    job = _prepare(Path(base), Path(adapter), output, alpha, dtype, onto_quantised, tick)
    warnings = list(job.warnings)
    for warning in warnings:
        _tell(on_warning, warning)
    tally = _Tally()
    with _unfinished(output) as part:
        checksums = _write(job, part, tally, tick)
        _read_back(part, checksums, job.nbytes, tick)
        logits = None
        if verify:
            logits = compare_logits(
                part, job.base.path, job.adapter.file.path, job.spec, job.alpha, job.quant, tick.check_stop
            )
            if isinstance(logits, Problem):
                warnings.append(logits)
                _tell(on_warning, logits)
                logits = None
        _publish(part, output)
    return MergeReport(
        output, output.stat().st_size, len(job.plan), len(tally.changed),
        len(job.modules), job.alpha, job.quant, dtype or job.spec.dtype,
        tally.lost_share, tally.max_change, time.monotonic() - started_s, logits, tuple(warnings),
    )  # fmt: skip


class _Ticker:
    """Reports progress and asks whether to stop."""

    def __init__(self, on_progress: Progress | None, should_stop: Callable[[], bool] | None) -> None:
        self._on_progress, self._should_stop = on_progress, should_stop

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.check_stop()
        if self._on_progress is not None:
            self._on_progress(phase, done, total)

    def check_stop(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise MergeStoppedError


def _tell(on_warning: Callable[[Problem], None] | None, problem: Problem) -> None:
    if on_warning is not None:
        on_warning(problem)


def _prepare(
    base: Path,
    adapter: Path,
    output: Path,
    alpha: float | None,
    dtype: str | None,
    onto_quantised: bool,
    tick: _Ticker,
) -> _Job:
    """Open and check everything; nothing is written but the output's folder."""
    if output.exists():
        raise InputError("merge_output_exists", path=str(output))
    base_file = open_checkpoint(base)
    spec = detect_file(base_file)
    adapter_file = open_adapter(adapter)
    check_fits(adapter_file, base_file.infos, base)
    warnings: list[Problem] = []
    meta = adapter_file.meta
    if meta is not None:
        if meta.generation.partition(".")[0] != spec.generation.partition(".")[0]:
            described = f"RWKV-{meta.generation}"
            raise InputError("adapter_mismatch", path=str(adapter), tensors=described, base=str(base))
        if not _is_base_of(meta, base_file, tick):
            names = {"adapter_base": meta.base_name, "base": base.name}
            warnings.append(Problem("adapter_base_differs", names))
        if meta.quant is not None and not onto_quantised:
            warnings.append(Problem("adapter_base_quantised", {"quant": meta.quant}))
        if meta.alpha is not None and alpha not in (None, meta.alpha):
            warnings.append(Problem("adapter_alpha_differs", {"given": alpha, "recorded": meta.alpha}))
    used = _alpha(adapter_file, alpha)
    infos = {**base_file.infos, **_states(adapter_file, spec)}
    plan = {name: TensorPlan(dtype or info.dtype, info.shape) for name, info in infos.items()}
    quant = meta.quant if meta is not None and onto_quantised else None
    job = _Job(
        base_file, spec, adapter_file, used, quant, plan, by_module(adapter_file.names), tuple(warnings)
    )
    _require_space(output, job.nbytes)
    return job


def _states(adapter: AdapterFile, spec: ModelSpec) -> dict[str, TensorInfo]:
    """The tuned states of an adapter, which the base has no place for yet."""
    states = {name: info for name, info in adapter.infos.items() if name.endswith(STATE)}
    if states.keys() - optional_shapes(spec).keys():
        raise InputError("merge_state", path=str(adapter.file.path), generation=spec.generation)
    return states


def _is_base_of(meta: AdapterMeta, base: CheckpointFile, tick: _Ticker) -> bool:
    """Whether the adapter was trained on this very file; its size tells most others without reading them."""
    if meta.base_bytes != base.nbytes:
        return False
    return meta.base_sha256 == base.sha256(lambda done, total: tick.check_stop())


def _alpha(adapter: AdapterFile, given: float | None) -> float | None:
    """The metadata's alpha, else the given one; None where there is nothing to scale."""
    if not adapter.is_scaled:
        return None
    recorded = None if adapter.meta is None else adapter.meta.alpha
    used = given if recorded is None else recorded
    if used is None:
        raise InputError("adapter_alpha_unknown", path=str(adapter.file.path), r=adapter.rank)
    return used


def _require_space(output: Path, nbytes: int) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(output.parent).free
    except OSError as error:
        raise disk_error(error, output) from error
    if free_bytes < nbytes + _SPARE_BYTES:
        raise AppError("disk_full", path=str(output))


@contextmanager
def _unfinished(output: Path) -> Iterator[Path]:
    """A name beside the output for the file that is being made; gone when an error or a stop ends it."""
    # Ends in .pth because the package `rwkv` adds that to what it loads.
    part = output.with_name(f".merging-{secrets.token_hex(6)}.pth")
    try:
        yield part
    except OSError as error:
        raise disk_error(error, output) from error
    finally:
        if part.exists():
            part.unlink()


def _publish(part: Path, output: Path) -> None:
    """Give the finished file its name, never taking another file's."""
    try:
        os.link(part, output)
    except FileExistsError as error:
        raise InputError("merge_output_exists", path=str(output)) from error
    except OSError:
        # A file system without hard links: the gap between question and answer is all that can be had.
        if output.exists():
            raise InputError("merge_output_exists", path=str(output)) from None
        part.rename(output)
    fsync_folder(output.parent)


def _write(job: _Job, part: Path, tally: _Tally, tick: _Ticker) -> dict[str, int]:
    """Write all tensors; name -> CRC-32 of its bytes."""
    checksums: dict[str, int] = {}
    done_bytes = 0
    with open(part, "xb") as file:
        with PthWriter(file, job.plan) as writer:
            for name, tensor in job.plan.items():
                blocks = _merged_blocks(job, name, tally)
                checksums[name] = writer.write(name, _watched(blocks, done_bytes, job.nbytes, tick))
                done_bytes += tensor.nbytes
        file.flush()
        os.fsync(file.fileno())
    return checksums


def _watched(blocks: Iterator[memoryview], done: int, total: int, tick: _Ticker) -> Iterator[memoryview]:
    for block in blocks:
        yield block
        done += block.nbytes
        tick("merging", done, total)


def _merged_blocks(job: _Job, name: str, tally: _Tally) -> Iterator[memoryview]:
    """The output's bytes of one tensor, a few rows at a time."""
    target = job.plan[name].dtype
    if name not in job.base.infos:
        yield _bytes(job.adapter.tensor(name).float(), name, target)
        tally.changed.add(name)
        return
    source = job.base.infos[name].dtype
    update = _updates(job, name)
    quant = job.quant if is_projection(name) else None
    for block in job.base.blocks(name, BLOCK_ELEMENTS):
        if update is None and quant is None and source == target:
            yield block.reshape(-1).view("u1").data
            continue
        before = as_tensor(block, source).float()
        wanted = before if quant is None else QuantisedWeight(before, quant).dense(torch.float32)
        if update is not None:
            wanted = next(update)(wanted)
        after = wanted.to(_torch_dtype(target))
        yield _bytes(after, name, target)
        if update is not None or quant is not None:
            tally.add(name, before, wanted, after.float())


def _bytes(tensor: Tensor, name: str, dtype: str) -> memoryview:
    tensor = tensor.to(_torch_dtype(dtype))
    if not tensor.isfinite().all():
        raise AppError("merge_verify_failed", tensor=f"{name}: inf, nan")
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _torch_dtype(dtype: str) -> torch.dtype:
    return getattr(torch, DTYPES[dtype].torch)


def _updates(job: _Job, name: str) -> Iterator[Callable[[Tensor], Tensor]] | None:
    """For each block of a tensor, what makes its new values of its old ones; None if the tensor stays."""
    module = name.removesuffix(".weight")
    if module in job.modules:
        return _adapted(job, module, job.modules[module])
    if name in job.adapter.names:
        return _replacements(job, name)
    return None


def _adapted(job: _Job, module: str, names: frozenset[str]) -> Iterator[Callable[[Tensor], Tensor]]:
    kind = kind_of(names)
    assert kind is not None, "files are checked as they are opened"
    leaves = {leaf: _finite(job, f"{module}.{leaf}") for leaf in names}
    first = 0

    def merged(W: Tensor) -> Tensor:
        nonlocal first
        rows = KINDS[kind].merged(W, first, leaves, job.alpha or 0.0)
        first += len(W)
        return rows

    while True:
        yield merged


def _replacements(job: _Job, name: str) -> Iterator[Callable[[Tensor], Tensor]]:
    stored = job.adapter.names[name]
    info = job.adapter.file.infos[stored]
    if info.shape == job.base.infos[name].shape:
        blocks = job.adapter.file.blocks(stored, BLOCK_ELEMENTS)
    else:  # a vector without the base's leading ones
        blocks = iter([job.adapter.file.read(stored)])
    for block in blocks:
        new = as_tensor(block, info.dtype).float()
        yield lambda W, new=new: new.reshape(W.shape)


def _finite(job: _Job, name: str) -> Tensor:
    factor = job.adapter.tensor(name).float()
    if not factor.isfinite().all():
        raise InputError("adapter_unreadable", path=str(job.adapter.file.path), reason=f"{name}: inf, nan")
    return factor


def _read_back(part: Path, checksums: dict[str, int], total: int, tick: _Ticker) -> None:
    """Compare every tensor on the disk with what was written."""
    _forget_cached(part)
    written = open_checkpoint(part)
    done = 0
    if list(written.infos) != list(checksums):
        raise AppError("merge_verify_failed", tensor="data.pkl")
    for name, expected in checksums.items():
        found = 0
        for block in written.blocks(name, BLOCK_ELEMENTS):
            found = zlib.crc32(block.reshape(-1).view("u1").data, found)
            done += block.nbytes
            tick("verifying", done, total)
        if found != expected:
            raise AppError("merge_verify_failed", tensor=name)


def _forget_cached(path: Path) -> None:
    # Without this the bytes would come back from memory and prove nothing about the disk.
    if hasattr(os, "posix_fadvise"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

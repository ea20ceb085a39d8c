"""Merging adapters into their base: fp32 arithmetic, one rounding, a few megabytes at a time.

Each kind of adapter says what becomes of a weight's rows; tensors that were trained in full replace the
base's. The base's key order and element types stay, so that every tool that reads the base reads the merged
model. Tuned states follow behind its keys, where tools of RWKV-5 and 6 look for them.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainer.adapters.files import AdapterFile, check_fits, open_adapter, recognised
from trainer.adapters.leaves import STATE
from trainer.adapters.leftovers import remove_leftovers, unfinished
from trainer.adapters.logits import LogitsCheck, compare_logits
from trainer.adapters.outputs import Output, Tally, check_written, plan_output
from trainer.adapters.updates import Merged, Part
from trainer.contract.adapter_meta import AdapterMeta
from trainer.contract.errors import AppError, InputError, Problem
from trainer.contract.files import disk_error, fsync_folder
from trainer.models.checkpoint import CheckpointFile, open_checkpoint
from trainer.models.layouts import optional_shapes
from trainer.models.quantised import Quant
from trainer.models.spec import ModelSpec, detect_file

OUTPUT_DTYPES = ("bf16", "fp16", "fp32", "q8_0")
_SPARE_BYTES = 4 * 1024 * 1024

Progress = Callable[[str, int, int], None]
FilePath = str | os.PathLike[str]


class MergeStoppedError(Exception):
    """The caller asked to stop; nothing was left behind."""


@dataclass(frozen=True, slots=True)
class Addition:
    """An adapter to merge.

    Attributes:
        strength: 0 leaves the base as it is, 1 is what was trained; more overdoes it.
        alpha: of training, for files that do not tell it.
        pissa_init: what a PiSSA of RWKV-PEFT started from, where it is not beside the adapter.
    """

    adapter: FilePath
    strength: float = 1.0
    alpha: float | None = None
    pissa_init: FilePath | None = None


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge did.

    Attributes:
        output_bytes: size of the merged file.
        tensors: in the file; `changed`: those that differ from the base's.
        adapters: of each, what it was taken for and how it was added.
        lora_matrices: projections that were adapted, by whatever method.
        alpha: of the only adapter; None where nothing is scaled by it, or where there are several.
        quant: of the weights that the adapters were added to; None for the base's own.
        lost_share: norm of what rounding took, |(W' - W) - update| / |update|, over all touched tensors.
        max_change: the largest |W' - W| of any element.
        logits: how far the logits of the merged model are from others; None if they were not compared.
        warnings: what a person should know.
    """

    output: Path
    output_bytes: int
    tensors: int
    changed: int
    adapters: tuple[Problem, ...]
    lora_matrices: int
    alpha: float | None
    quant: str | None
    dtype: str
    lost_share: float
    max_change: float
    seconds: float
    logits: LogitsCheck | None
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that was decided before the first byte is written."""

    merged: Merged
    spec: ModelSpec
    output: Output
    warnings: tuple[Problem, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.merged.parts

    @property
    def only_adapter(self) -> AdapterFile | None:
        """The adapter, where base and adapter as they are make the merged model."""
        if len(self.parts) != 1:
            return None
        (part,) = self.parts
        return part.adapter if part.strength == 1.0 and part.layers is None else None


def merge(
    base: FilePath,
    adapters: FilePath | Sequence[Addition],
    output: FilePath,
    *,
    alpha: float | None = None,
    layers: frozenset[int] | None = None,
    dtype: str | None = None,
    onto_quantised: bool = False,
    verify: bool = True,
    on_progress: Progress | None = None,
    on_warning: Callable[[Problem], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> MergeReport:
    """Write the merged model as a new file; it appears whole and checked, or not at all.

    Args:
        base: .pth or .safetensors. adapters: one of any tool's, or several with how each is added; none
            writes the base in another format.
        output: must not exist; its name says .pth, .safetensors or .gguf.
        alpha: as in `Addition`, for a single adapter.
        layers: change these blocks only, and nothing beside them.
        dtype: of `OUTPUT_DTYPES`, for all tensors ("q8_0" in .gguf only); None keeps each tensor's own, and
            is fp16 in .gguf.
        onto_quantised: for an adapter of a quantised base: add it to those weights, decoded, which gives the
            very model that was trained, and not to the base's own.
        verify: compare logits with the package `rwkv` and with base + adapter where memory allows. That every
            tensor reads back as it was written is always checked.
        on_progress: called with "merging" or "verifying", bytes done, bytes in all.
        on_warning: called with each problem, and with what each of other tools' adapters was taken for.
        should_stop: asked after every block.

    Raises:
        InputError: the base, an adapter, their fit, `adapter_alpha_unknown`, `merge_output_exists`,
            `merge_format`, `merge_layers`, `merge_quantised` (adapters of differently quantised bases),
            `merge_state` (a tuned state of a generation whose tools keep it in a file of its own).
        AppError: `disk_full`, `not_writable`, `merge_verify_failed`.
        MergeStoppedError: `should_stop` said so.
    """
    started_s = time.monotonic()
    output = Path(output)
    if isinstance(adapters, (str, os.PathLike)):
        adapters = [Addition(adapters, alpha=alpha)]
    tick = _Ticker(on_progress, should_stop)
    job = _prepare(Path(base), adapters, output, layers, dtype, onto_quantised, tick)
    taken_for = tuple(recognised(part.adapter) for part in job.parts)
    warnings = list(job.warnings)
    others = [told for told, part in zip(taken_for, job.parts, strict=True) if part.adapter.meta is None]
    for problem in (*others, *warnings):
        _tell(on_warning, problem)
    tally = Tally()
    with _making(output) as unnamed:
        checksums = job.output.write(unnamed, tally, tick.phase("merging", job.output.nbytes))
        check_written(job.output, unnamed, checksums, tick.phase("verifying", job.output.nbytes))
        logits = None
        if verify:
            compared = _compare(job, unnamed, tick)
            if isinstance(compared, Problem):
                warnings.append(compared)
                _tell(on_warning, compared)
            else:
                logits = compared
        _publish(unnamed, output)
    return MergeReport(
        output=output, output_bytes=output.stat().st_size, tensors=job.output.tensors,
        changed=len(tally.changed), adapters=taken_for,
        lora_matrices=len({module for part in job.parts for module in part.modules}),
        alpha=job.parts[0].alpha if len(job.parts) == 1 else None, quant=job.merged.quant,
        dtype=job.output.dtype, lost_share=tally.lost_share, max_change=tally.max_change,
        seconds=time.monotonic() - started_s, logits=logits, warnings=tuple(warnings),
    )  # fmt: skip


class _Ticker:
    """Reports progress and asks whether to stop."""

    def __init__(self, on_progress: Progress | None, should_stop: Callable[[], bool] | None) -> None:
        self._on_progress, self._should_stop = on_progress, should_stop

    def phase(self, name: str, total: int) -> Callable[[int], None]:
        """What is to be called with the bytes that went by in a phase."""
        done = 0

        def passed(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            self.check_stop()
            if self._on_progress is not None:
                self._on_progress(name, done, total)

        return passed

    def check_stop(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise MergeStoppedError


def _tell(on_warning: Callable[[Problem], None] | None, problem: Problem) -> None:
    if on_warning is not None:
        on_warning(problem)


def _compare(job: _Job, path: Path, tick: _Ticker) -> LogitsCheck | Problem:
    if path.suffix == ".gguf":
        return Problem("merge_verify_skipped", {"reason": "GGUF"})
    adapter = job.only_adapter
    alpha = job.parts[0].alpha if job.parts else None
    return compare_logits(
        path, job.merged.base.path, adapter, job.spec, alpha, job.merged.quant, tick.check_stop
    )


def _prepare(
    base: Path,
    additions: Sequence[Addition],
    output: Path,
    layers: frozenset[int] | None,
    dtype: str | None,
    onto_quantised: bool,
    tick: _Ticker,
) -> _Job:
    """Open and check everything; nothing is written but the output's folder."""
    if output.exists():
        raise InputError("merge_output_exists", path=str(output))
    base_file = open_checkpoint(base)
    spec = detect_file(base_file)
    if layers is not None and (beyond := sorted(layer for layer in layers if layer >= spec.n_layer)):
        raise InputError("merge_layers", layer=beyond[0], last=spec.n_layer - 1)
    parts: list[Part] = []
    warnings: list[Problem] = []
    for addition in additions:
        adapter = open_adapter(addition.adapter, addition.pissa_init)
        check_fits(adapter, base_file.infos, base)
        _require_place_for_states(adapter, spec, output)
        warnings += _doubts(adapter, base_file, addition.alpha, onto_quantised, tick)
        parts.append(Part(adapter, addition.strength, _alpha(adapter, addition.alpha), layers))
    quant = _quant([part.adapter for part in parts]) if onto_quantised else None
    merged = Merged(base_file, tuple(parts), quant)
    planned = plan_output(output, merged, spec, dtype)
    _require_space(output, planned.nbytes)
    return _Job(merged, spec, planned, tuple(warnings))


def _require_place_for_states(adapter: AdapterFile, spec: ModelSpec, output: Path) -> None:
    """Tools of RWKV-5 and 6 read states from a .pth; nothing reads them from elsewhere."""
    states = {name for name in adapter.tensors if name.endswith(STATE)}
    places = set() if output.suffix == ".gguf" else optional_shapes(spec).keys()
    if states - places:
        raise InputError("merge_state", path=str(adapter.path), generation=spec.generation)


def _doubts(
    adapter: AdapterFile, base: CheckpointFile, alpha: float | None, onto_quantised: bool, tick: _Ticker
) -> Iterator[Problem]:
    """What a person should know before an adapter is added."""
    meta = adapter.meta
    if meta is not None:
        if not _is_base_of(meta, base, tick):
            names = {"adapter_base": meta.base_name, "base": base.path.name}
            yield Problem("adapter_base_differs", names)
        if meta.quant is not None and not onto_quantised:
            yield Problem("adapter_base_quantised", {"quant": meta.quant})
    if adapter.alpha is not None and alpha not in (None, adapter.alpha):
        yield Problem("adapter_alpha_differs", {"given": alpha, "recorded": adapter.alpha})


def _is_base_of(meta: AdapterMeta, base: CheckpointFile, tick: _Ticker) -> bool:
    """Whether the adapter was trained on this very file; its size tells most others without reading them."""
    if meta.base_bytes != base.nbytes:
        return False
    return meta.base_sha256 == base.sha256(lambda done, total: tick.check_stop())


def _alpha(adapter: AdapterFile, given: float | None) -> float | None:
    """The alpha that the file tells, else the given one; None where there is nothing to scale."""
    if not adapter.is_scaled:
        return None
    used = given if adapter.alpha is None else adapter.alpha
    if used is None:
        raise InputError("adapter_alpha_unknown", path=str(adapter.path), r=adapter.rank)
    return used


def _quant(adapters: Sequence[AdapterFile]) -> Quant | None:
    """What all of the adapters' bases were quantised to."""
    quants: set[Quant | None] = {None if adapter.meta is None else adapter.meta.quant for adapter in adapters}
    if len(quants) > 1:
        raise InputError("merge_quantised", quants=", ".join(sorted(quant or "—" for quant in quants)))
    return next(iter(quants), None)


def _require_space(output: Path, nbytes: int) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(output.parent)
        free_bytes = shutil.disk_usage(output.parent).free
    except OSError as error:
        raise disk_error(error, output) from error
    if free_bytes < nbytes + _SPARE_BYTES:
        raise AppError("disk_full", path=str(output))


@contextmanager
def _making(output: Path) -> Iterator[Path]:
    try:
        with unfinished(output) as part:
            yield part
    except OSError as error:
        raise disk_error(error, output) from error


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

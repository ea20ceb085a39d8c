"""The files that a merge can write: .pth, .safetensors and .gguf, tensor by tensor, and read back."""

from __future__ import annotations

import math
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from trainer.adapters.updates import BLOCK_ELEMENTS, Merged
from trainer.contract.errors import AppError, InputError
from trainer.data.tokenizers import PILE_VOCAB_SIZES
from trainer.data.vocabulary import parse_vocabulary, world_vocabulary_path
from trainer.models.checkpoint import open_checkpoint
from trainer.models.layouts import ModelSpec
from trainer.models.pth_writer import PthWriter, TensorPlan
from trainer.models.safetensors_writer import SafetensorsWriter
from trainer.models.stored import DTYPES

# Called with the bytes that went by.
Passed = Callable[[int], None]
# Blocks that are made before they are asked for.
_AHEAD = 8


@dataclass(slots=True)
class Tally:
    """Sums over the elements that adapters touch."""

    update: float = 0.0
    lost: float = 0.0
    max_change: float = 0.0
    changed: set[str] = field(default_factory=set)

    def add(self, name: str, before: Tensor, wanted: Tensor, after: Tensor) -> None:
        """All fp32, of one block: the base's values, the exact new ones, the rounded new ones."""
        change, update = (after - before).flatten(), (wanted - before).flatten()
        largest = max(abs(edge.item()) for edge in change.aminmax())
        self.max_change = max(self.max_change, largest)
        if largest:
            self.changed.add(name)
        self.update += torch.dot(update, update).item()
        lost = change.sub_(update)
        self.lost += torch.dot(lost, lost).item()

    @property
    def lost_share(self) -> float:
        return math.sqrt(self.lost / self.update) if self.update else 0.0


class Output(Protocol):
    """A kind of file, planned for one merge.

    Attributes:
        dtype: of most of what is written. tensors: in the file.
        nbytes: of all tensors.
    """

    dtype: str
    tensors: int
    nbytes: int

    def write(self, path: Path, tally: Tally, passed: Passed) -> dict[str, int]:
        """Write a file that must not exist; name -> CRC-32 of each tensor, in the file's order."""
        ...

    def read_back(self, path: Path) -> Iterator[tuple[str, Iterator[memoryview]]]:
        """Each tensor's bytes as a reader finds them."""
        ...


def plan_output(path: Path, merged: Merged, spec: ModelSpec, dtype: str | None) -> Output:
    """The kind of file that a name asks for.

    Args:
        dtype: "bf16", "fp16", "fp32", or "q8_0" for .gguf; None keeps the base's types, and is fp16 in .gguf.

    Raises:
        InputError: `merge_format`, the name or the dtype belongs to no kind of file; `gguf_generation`;
            `vocab_not_found`.
    """
    suffix = path.suffix.lower()
    if suffix == ".gguf":
        return _GgufOutput(merged, spec, dtype or "fp16", path.stem)
    if suffix not in _WRITERS or dtype == "q8_0":
        raise InputError("merge_format", path=str(path), dtype=dtype or spec.dtype)
    return _TensorOutput(merged, spec, dtype, _WRITERS[suffix])


_WRITERS: dict[str, Any] = {".pth": PthWriter, ".safetensors": SafetensorsWriter}
SUFFIXES = (*_WRITERS, ".gguf")


class _TensorOutput:
    """The base's tensors in the base's order, in its element types or in one."""

    def __init__(self, merged: Merged, spec: ModelSpec, dtype: str | None, writer: Any) -> None:
        self._merged, self._writer = merged, writer
        self._plan = {
            name: TensorPlan(dtype or info.dtype, info.shape) for name, info in merged.infos.items()
        }
        self.dtype = dtype or spec.dtype
        self.tensors = len(self._plan)
        self.nbytes = sum(tensor.nbytes for tensor in self._plan.values())

    def write(self, path: Path, tally: Tally, passed: Passed) -> dict[str, int]:
        with open(path, "xb") as file:
            with self._writer(file, self._plan) as writer:
                checksums = {
                    name: writer.write(name, _told(self._blocks(name, tally), passed)) for name in self._plan
                }
            file.flush()
            os.fsync(file.fileno())
        return checksums

    def read_back(self, path: Path) -> Iterator[tuple[str, Iterator[memoryview]]]:
        file = open_checkpoint(path)
        for name in file.infos:
            blocks = file.blocks(name, BLOCK_ELEMENTS)
            yield name, (block.reshape(-1).view("u1").data for block in blocks)

    def _blocks(self, name: str, tally: Tally) -> Iterator[memoryview]:
        merged, target = self._merged, self._plan[name].dtype
        if not merged.is_changed(name) and merged.infos[name].dtype == target:
            for block in merged.base.blocks(name, BLOCK_ELEMENTS):
                yield block.reshape(-1).view("u1").data
            return
        for before, wanted in merged.rows(name):
            after = _finite(name, wanted.to(getattr(torch, DTYPES[target].torch)))
            yield after.reshape(-1).view(torch.uint8).numpy().data
            if merged.is_changed(name):
                tally.add(name, before, wanted, after.float())


class _GgufOutput:
    """What llama.cpp reads."""

    def __init__(self, merged: Merged, spec: ModelSpec, dtype: str, name: str) -> None:
        from trainer.models import gguf_file  # needs a package of its own

        self._gguf, self._merged, self._spec = gguf_file, merged, spec
        self._plan = gguf_file.plan_gguf(spec, dtype, merged.base.path)
        if spec.vocab_size in PILE_VOCAB_SIZES:
            raise InputError("vocab_not_found", path="20B_tokenizer.json")
        self.dtype, self._name = dtype, name
        self.tensors = len(self._plan)
        self.nbytes = sum(tensor.nbytes for tensor in self._plan.values())

    def write(self, path: Path, tally: Tally, passed: Passed) -> dict[str, int]:
        vocab = world_vocabulary_path()
        vocabulary = parse_vocabulary(vocab.read_bytes(), vocab)
        writer = self._gguf.GgufWriter(path, self._spec, self._plan, self.dtype, self._name, vocabulary)
        with writer:
            return {name: writer.write(name, _told(self._blocks(name, tally), passed)) for name in self._plan}

    def read_back(self, path: Path) -> Iterator[tuple[str, Iterator[memoryview]]]:
        return self._gguf.read_back(path, self._plan)

    def _blocks(self, name: str, tally: Tally) -> Iterator[memoryview]:
        tensor = self._plan[name]
        is_changed = any(map(self._merged.is_changed, tensor.sources))
        for before, wanted in self._rows(name):
            block, after = self._gguf.encode(wanted, tensor.type)
            _finite(name, after)
            yield block
            if is_changed:
                tally.add(name, before, wanted, after)

    def _rows(self, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Values of a tensor in the order of the GGUF file, the last dimension whole."""
        tensor = self._plan[name]
        if tensor.is_rearranged:
            sources = [self._whole(source) for source in tensor.sources]
            before, wanted = (tensor.rearranged(side) for side in zip(*sources, strict=True))
            yield before, wanted
            return
        for before, wanted in self._merged.rows(tensor.sources[0]):
            yield before.reshape(-1, tensor.shape[-1]), wanted.reshape(-1, tensor.shape[-1])

    def _whole(self, source: str) -> tuple[Tensor, Tensor]:
        before, wanted = zip(*self._merged.rows(source), strict=True)
        return torch.cat(before), torch.cat(wanted)


def _told(blocks: Iterator[memoryview], passed: Passed) -> Iterator[memoryview]:
    for block in _ahead(blocks):
        yield block
        passed(block.nbytes)


def _ahead(blocks: Iterator[memoryview]) -> Iterator[memoryview]:
    """The same blocks, read and computed in a thread while earlier ones are summed up and written."""
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, blocks, None) for _ in range(_AHEAD))
        while (block := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, blocks, None))
            yield block


def _finite(name: str, tensor: Tensor) -> Tensor:
    # A dot product sees whatever is not finite, many times faster than the test of each element. Large values
    # may overflow in it, so that test has the last word.
    values = tensor.reshape(-1).float()
    if not math.isfinite(torch.dot(values, values).item()) and not tensor.isfinite().all():
        raise AppError("merge_verify_failed", tensor=f"{name}: inf, nan")
    return tensor


def check_written(output: Output, path: Path, checksums: dict[str, int], passed: Passed) -> None:
    """Compare every tensor on the disk with what was written.

    Raises:
        AppError: `merge_verify_failed`.
    """
    _forget_cached(path)
    found: dict[str, int] = {}
    for name, blocks in output.read_back(path):
        checksum = 0
        for block in _told(blocks, passed):
            checksum = zlib.crc32(block, checksum)
        if checksums.get(name) != checksum:
            raise AppError("merge_verify_failed", tensor=name)
        found[name] = checksum
    if list(found) != list(checksums):
        raise AppError("merge_verify_failed", tensor=f"{len(found)} / {len(checksums)}")


def _forget_cached(path: Path) -> None:
    # Without this the bytes would come back from memory and prove nothing about the disk.
    if hasattr(os, "posix_fadvise"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

"""The pickle inside a torch checkpoint, read as a description of tensors: nothing that it names is run.

Every global of the pickle is looked up in a short table of inert stand-ins; any other ends the reading.
Storages are not loaded: a tensor becomes a `TensorRef` with its storage's key, offset, shape and strides.
The stand-ins are named tuples, because a pickle can set the state of any object that lets itself be set.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import IO, Any, NamedTuple

from trainer.models.stored import BY_TORCH_NAME, DTYPES, DType

# torch's name of a typed storage -> our dtype. Published files write these even for bf16.
STORAGES = {
    "FloatStorage": "fp32",
    "BFloat16Storage": "bf16",
    "HalfStorage": "fp16",
    "DoubleStorage": "fp64",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
}
# What the unpickler raises on bytes that are no pickle, or one with nonsense in it.
BROKEN_PICKLE = (
    pickle.UnpicklingError, EOFError, IndexError, KeyError, ValueError, TypeError, AttributeError,
    OverflowError, RecursionError,
)  # fmt: skip


class ForbiddenGlobalError(Exception):
    """The pickle names something that is not a tensor: unpickling it could run code.

    Attributes:
        name: the dotted name, cut to a length that can be shown.
    """

    def __init__(self, module: str, name: str) -> None:
        self.name = f"{module}.{name}"[:120]
        super().__init__(self.name)


class StorageRef(NamedTuple):
    """A storage by its key; `dtype` is None where the pickle leaves it untyped."""

    key: str
    dtype: DType | None
    numel: int


class TensorRef(NamedTuple):
    """A tensor of a pickle; `start` and `stride` in elements of `dtype`."""

    storage: StorageRef
    dtype: DType
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _TypeName(NamedTuple):
    """Stands for a storage class (dtype None: untyped) or a dtype."""

    dtype: DType | None


class _Rebuild(NamedTuple):
    """Stands for torch's rebuilding functions."""

    kind: str

    def __call__(self, *args: Any) -> Any:
        if self.kind == "parameter":
            return _expect(args[0], TensorRef)
        if self.kind == "size":
            return _sizes(args[0])
        storage, start, shape, stride = args[:4]
        _expect(storage, StorageRef)
        dtype = _expect(args[6], _TypeName).dtype if self.kind == "tensor_v3" else storage.dtype
        if dtype is None:
            raise pickle.UnpicklingError("a tensor without a type")
        (start,), shape, stride = _sizes((start,)), _sizes(shape), _sizes(stride)
        if len(shape) != len(stride):
            raise pickle.UnpicklingError("shape and strides differ in length")
        return TensorRef(storage, dtype, start, shape, stride)


_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): _Rebuild("size"),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild("tensor"),
    ("torch._utils", "_rebuild_tensor_v3"): _Rebuild("tensor_v3"),
    ("torch._utils", "_rebuild_parameter"): _Rebuild("parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"): _Rebuild("parameter"),
    ("torch.storage", "UntypedStorage"): _TypeName(None),
    **{("torch", storage): _TypeName(DTYPES[name]) for storage, name in STORAGES.items()},
    **{("torch", name): _TypeName(dtype) for name, dtype in BY_TORCH_NAME.items()},
}


class HeaderUnpickler(pickle.Unpickler):
    """Unpickles a checkpoint's description into dictionaries, numbers, strings and `TensorRef`s.

    Raises:
        ForbiddenGlobalError: the pickle names anything but tensors and ordered dictionaries.
        BROKEN_PICKLE: it is no pickle of a checkpoint.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8")

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _GLOBALS[module_name, global_name]
        except KeyError:
            raise ForbiddenGlobalError(module_name, global_name) from None

    def persistent_load(self, pid: Any) -> StorageRef:
        # ("storage", type, key, device, number of elements[, view of another storage: long gone from torch])
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("a reference to something that is not a storage")
        if len(pid) == 6 and pid[5] is not None:
            raise pickle.UnpicklingError("a storage that is a view of another one")
        (numel,) = _sizes((pid[4],))
        return StorageRef(str(pid[2]), _expect(pid[1], _TypeName).dtype, numel)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _sizes(values: Any) -> tuple[int, ...]:
    if not all(type(v) is int and 0 <= v < 2**48 for v in values):
        raise pickle.UnpicklingError("a size that is not a natural number")
    return tuple(values)

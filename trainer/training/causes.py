"""What made a run fail, told by a code: memory that ran out, another process that is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from trainer.contract.errors import AppError

# What PyTorch's CPU allocator and the GPU's libraries say instead of raising an error of their own.
_RAM_TEXT = "DefaultCPUAllocator"
_VRAM_TEXTS = ("ALLOC_FAILED", "out of memory")
# The same of Gloo, whose errors have no type.
_LOST_TEXTS = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
# A process whose connections are gone may not have quite ended.
_ENDING_S = 5.0


@contextmanager
def coded_errors(lost: Callable[[], AppError | None] = lambda: None) -> Iterator[None]:
    """Give errors of PyTorch that a person can do something about their code.

    Args:
        lost: which of the processes that this one has started has failed.
    """
    try:
        yield
    except AppError:
        raise
    except torch.OutOfMemoryError as error:
        raise AppError("oom_vram") from error
    except MemoryError as error:
        raise AppError("oom_ram") from error
    except RuntimeError as error:
        if (coded := _coded(error, lost)) is not None:
            raise coded from error
        raise


def _coded(error: RuntimeError, lost: Callable[[], AppError | None]) -> AppError | None:
    text = str(error)
    if isinstance(error, dist.DistError) or any(word in text for word in _LOST_TEXTS):
        return _lost(lost) or AppError(
            "process_lost", what=text.splitlines()[0][:200] if text else repr(error)
        )
    if _RAM_TEXT in text:
        return AppError("oom_ram")
    if any(word in text for word in _VRAM_TEXTS):
        return AppError("oom_vram")
    return None


def _lost(lost: Callable[[], AppError | None]) -> AppError | None:
    until_s = time.monotonic() + _ENDING_S
    while (found := lost()) is None and time.monotonic() < until_s:
        time.sleep(0.1)
    return found

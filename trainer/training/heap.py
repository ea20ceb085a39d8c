"""Keeping the C library's heap at what is alive, where memory is short."""

from __future__ import annotations

import ctypes
import logging
import sys

# malloc.h of glibc.
_M_MMAP_THRESHOLD = -3
# Blocks from this size on are mapped one by one and given back when freed; tensors of a step are larger.
_MAPPED_BYTES = 256 << 10

_LOG = logging.getLogger(__name__)


def keep_tight() -> bool:
    """Have large blocks given back as they are freed, for the rest of this process; False where nothing does.

    Mapping costs a fault for each page, a fifth to a third more time in a narrow model's steps.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    done = mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES) == 1
    _LOG.info("Memory is short: large blocks are %s", "mapped one by one" if done else "left to the heap")
    return done

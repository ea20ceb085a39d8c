"""Signals to a child and to everything that it started."""

from __future__ import annotations

import logging
import os
import signal

import psutil

LOG = logging.getLogger(__name__)


def signal_group(pgid: int, *, force: bool) -> bool:
    """Ask a process group to end, or end it.

    Args:
        pgid: the group, which is the id of the process that was started in a session of its own.
        force: SIGKILL instead of SIGTERM.

    Returns:
        Whether there was anything to signal.
    """
    if os.name != "posix":
        return _signal_tree(pgid, force=force)
    try:
        os.killpg(pgid, signal.SIGKILL if force else signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        LOG.warning("process group %d may not be signalled: %s", pgid, error)
        return False
    return True


def _signal_tree(pid: int, *, force: bool) -> bool:
    try:
        root = psutil.Process(pid)
        processes = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return False
    for process in processes:
        try:
            process.kill() if force else process.terminate()
        except psutil.NoSuchProcess:
            continue
    return True


def is_older_than(pid: int, ts: float) -> bool:
    """Whether a process lives and was started before a time (Unix seconds): a reused number is newer."""
    try:
        return psutil.Process(pid).create_time() <= ts + 1.0
    except psutil.NoSuchProcess:
        return False

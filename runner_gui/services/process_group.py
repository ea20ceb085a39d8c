"""Signals to a child and to everything that it started."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import psutil

from wsl_bootstrap.jobs.job import WslJob

LOG = logging.getLogger(__name__)
_KILLED_WITHIN_S = 15.0


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


def end_job(pid: int, job: WslJob | None, *, force: bool) -> None:
    """Ask a command and everything that it started to end, or end them; on the side where they run.

    Returns at once: reaching into a distribution takes a moment, for which the window may not stand still.
    """
    if job is None:
        signal_group(pid, force=force)
    else:
        threading.Thread(target=_end_inside, args=(pid, job, force), name="ending a job", daemon=True).start()


def _end_inside(pid: int, job: WslJob, force: bool) -> None:
    job.signal(force=force)
    if not force:
        return
    deadline = time.monotonic() + _KILLED_WITHIN_S
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid):
            return
        time.sleep(0.1)
    # Not even SIGKILL ends what hangs in a driver; the virtual machine's process tree does.
    if job.is_alive():
        job.terminate_distribution()
    signal_group(pid, force=True)


def is_older_than(pid: int, ts: float) -> bool:
    """Whether a process lives and was started before a time (Unix seconds): a reused number is newer."""
    try:
        return psutil.Process(pid).create_time() <= ts + 1.0
    except psutil.NoSuchProcess:
        return False

"""Long commands of steps: output as it comes, an end when asked, and a code when they fail."""

from __future__ import annotations

import shlex
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Protocol

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import CommandTimeoutError, Completed, Host, Process
from wsl_bootstrap.step import OnEvent, OutputLine, Plan, StepError
from wsl_bootstrap.wsl_errors import failure_code
from wsl_bootstrap.wsl_output import Ended, understand_exit

# Marks pathology, not impatience: a slow connection may need hours for gigabytes.
INSTALL_TIMEOUT_S = 6 * 3600.0
_POLL_S = 0.2
_STOP_GRACE_S = 5.0
_TAIL_LINES = 40
# The words of pip, which it has in English only, and of apt, which is run in C.UTF-8. They add a hint; the
# exit code decides.
_NETWORK_MARKS = (
    "ConnectionError",
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Read timed out",
    "ProtocolError",
    "IncompleteRead",
    "ProxyError",
    "name resolution",
    "Temporary failure resolving",
    "Could not connect to",
    "Failed to fetch",
)
_DISK_MARK = "No space left on device"
# Waits for what an earlier start of this program left at work in the folder $0 when it was killed: two pips
# at once spoil one environment. The lock ends with the last process that has it.
_ALONE = 'mkdir -p "$0" && command -v flock >/dev/null && exec flock "$0" "$@"; exec "$@"'


class Starter(Protocol):
    """Whatever starts commands: a host, or wsl.exe on its Windows side."""

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: PurePath | None = None
    ) -> Process:
        """See `Host.start`."""
        ...


def run_live(
    host: Starter,
    argv: Sequence[str],
    on_event: OnEvent,
    cancel: CancelToken,
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: PurePath | None = None,
    on_start: Callable[[Process], None] | None = None,
) -> Completed:
    """Run a command, report every line as an `OutputLine`, and return it with its last lines as stdout.

    Args:
        on_start: is given the process, once it runs.

    Raises:
        CancelledError: it was asked to end; nothing of it runs any more.
        CommandTimeoutError, CommandNotFoundError: as in `Host.run`.
    """
    began = time.monotonic()
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    process = host.start(argv, env=env, cwd=cwd)
    try:
        if on_start is not None:
            on_start(process)
        while not process.drained:
            line = process.read_line(_POLL_S)
            if line is not None:
                tail.append(line)
                on_event(OutputLine(line))
            if cancel.cancelled:
                raise CancelledError
            if time.monotonic() - began > timeout_s:
                raise CommandTimeoutError(argv, timeout_s)
    finally:
        process.stop(_STOP_GRACE_S)
    exit_code = process.exit_code
    assert exit_code is not None
    return Completed(tuple(argv), exit_code, "\n".join(tail), "", time.monotonic() - began)


def install(host: Host, plan: Plan, folder: PurePath, on_event: OnEvent, cancel: CancelToken) -> None:
    """Run the commands of an installation into `folder`, each reported before it runs.

    Raises:
        StepError: there is no room for it, or a command failed; of these only a download that broke off is
            retryable, a full disk or a conflict is not.
        HostError, CancelledError: as in `run_live`.
    """
    _check_room(host, plan.disk_bytes, folder)
    for argv in plan.commands:
        on_event(OutputLine("$ " + shlex.join(argv)))
        alone = ("sh", "-c", _ALONE, folder.parent.as_posix(), *argv)
        done = run_live(
            host, alone, on_event, cancel, timeout_s=INSTALL_TIMEOUT_S, env={"PYTHONUNBUFFERED": "1"}
        )
        if not done.ok:
            raise _failure(host, replace(done, argv=tuple(argv)), plan.disk_bytes, folder)


def _check_room(host: Host, need_bytes: int, folder: PurePath) -> None:
    free_bytes = host.free_disk_bytes(folder)
    if free_bytes < need_bytes:
        raise _disk_full(free_bytes, need_bytes, folder)


def _disk_full(free_bytes: int, need_bytes: int, folder: PurePath) -> StepError:
    have_gb, need_gb = round(free_bytes / 1e9, 1), round(need_bytes / 1e9, 1)
    return StepError(make_code("disk_full", path=str(folder), have_gb=have_gb, need_gb=need_gb))


def _failure(host: Host, done: Completed, need_bytes: int, folder: PurePath) -> StepError:
    detail = done.stdout[-2000:]
    command = shlex.join(done.argv)
    if understand_exit(done.exit_code, done.stdout).ended is Ended.BY_WINDOWS:
        code, retryable = failure_code(command, done.exit_code, done.stdout)
        return StepError(code, retryable=retryable)
    if _DISK_MARK in done.stdout:
        return _disk_full(host.free_disk_bytes(folder), need_bytes, folder)
    if any(mark in done.stdout for mark in _NETWORK_MARKS):
        return StepError(make_code("download_failed", detail=detail), retryable=True)
    return StepError(make_code("command_failed", command=command, exit_code=done.exit_code, detail=detail))

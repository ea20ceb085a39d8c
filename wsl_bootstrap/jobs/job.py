"""One job inside the distribution, under a name by which a later start of the app finds it again.

A job is held by one attached wsl.exe for its whole life: as long as that lives, neither the distribution nor
the virtual machine is shut down for idleness. Ending wsl.exe ends the job at best politely and its children
perhaps not at all, so signals go to the job's process group inside, through a second call.

What the job prints passes through unread: how it is framed is a matter between it and whoever started it.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from wsl_bootstrap.codes import Code
from wsl_bootstrap.distribution import is_own
from wsl_bootstrap.hosts.base import HostError
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.wsl_errors import failure_code
from wsl_bootstrap.wsl_output import Ended, understand_exit

LOG = logging.getLogger(__name__)

# Empty after each start of the virtual machine, as the jobs are gone then.
RECORDS = PurePosixPath("/run/rwkv-lora-runner")
_CALL_TIMEOUT_S = 20.0
_TERMINATE_TIMEOUT_S = 60.0
# $0 is the job's record. The relay gives each command a session of its own, so its id is that of its group.
_START = (
    'mkdir -p "${0%/*}" && printf "%s %s\\n" "$$" "$(cut -d " " -f 22 "/proc/$$/stat")" > "$0.new"'
    ' && mv "$0.new" "$0" && exec "$@"'
)
# A number may have passed to a stranger: the start time, field 22 of stat, tells. The name in field 2 may
# hold anything, so fields are counted from its closing bracket on; $1 of the script goes before them.
_CHECK = (
    'read -r pid start < "$0" || exit 1; '
    'if stat=$(cat "/proc/$pid/stat" 2>/dev/null); then set -- "$1" ${stat##*) }; '
    '[ "${21}" = "$start" ] || exit 1; fi; '
)
_SIGNAL = f'{{ {_CHECK}kill -s "$1" -- "-$pid"; }} 2>/dev/null'
_ALIVE = f'{{ {_CHECK}[ -n "$stat" ] && [ "$2" != Z ]; }} 2>/dev/null'
_WAIT = f"while {{ {_ALIVE}; }}; do sleep 1; done"
_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class JobLine:
    """What this computer starts: a command line, and what has to be added to the environment for it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: its exit code, negative for a signal; or the code of what happened to WSL."""

    exit_code: int | None
    code: Code | None = None


def job_name(kind: str, path: PurePath) -> str:
    """Return the name of the job that works on a file or folder: the same one each time."""
    return f"{kind}-{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


class WslJob:
    """A job by its name, whether it runs or not.

    Args:
        host: Windows with the distribution in which it runs.
        name: letters, digits, dots and dashes.
        records: the folder inside that says which process a job is.

    Raises:
        ValueError: another name.
    """

    def __init__(self, host: WindowsHost, name: str, records: PurePosixPath = RECORDS) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not the name of a job: {name!r}")
        self._host = host
        self._record = str(records / name)

    def line(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: PurePath | None = None,
        *,
        quiet: bool = False,
    ) -> JobLine:
        """Return what starts a command as this job; `quiet` leaves standard output to wsl.exe's own words."""
        script = f"{_START} >/dev/null" if quiet else _START
        return JobLine(
            tuple(self._host.command(["sh", "-c", script, self._record, *argv], cwd)),
            self._host.environment(env),
        )

    def watch_line(self) -> JobLine:
        """Return what lasts as long as the job, and keeps the distribution up meanwhile."""
        return JobLine(
            tuple(self._host.command(["sh", "-c", _WAIT, self._record, "-"])),
            self._host.environment(),
        )

    def is_alive(self) -> bool:
        """Whether it runs. A distribution that is not there has no jobs."""
        return self._ask(_ALIVE, "-")

    def signal(self, *, force: bool) -> bool:
        """Ask the job and everything in its group to end, or end them; false where there is nothing."""
        return self._ask(_SIGNAL, "KILL" if force else "TERM")

    def terminate_distribution(self) -> bool:
        """End everything in our own distribution: for what not even SIGKILL ends. Never a person's own."""
        if not is_own(self._host):
            LOG.warning("distribution %s is not ours: left alone", self._host.distribution)
            return False
        try:
            self._host.wsl.manage("--terminate", self._host.distribution, timeout_s=_TERMINATE_TIMEOUT_S)
        except HostError as problem:
            LOG.warning("the distribution was not terminated: %s", problem)
            return False
        return True

    def _ask(self, script: str, word: str) -> bool:
        if not self._host.has_distribution:
            return False
        try:
            done = self._host.run(["sh", "-c", script, self._record, word], timeout_s=_CALL_TIMEOUT_S)
        except HostError as problem:
            LOG.warning("job %s: %s", self._record, problem)
            return False
        return done.ok


def job_end(argv: Sequence[str], returncode: int, said: str = "") -> JobEnd:
    """Return what the end of an attached wsl.exe says of its job.

    Args:
        argv: what was started, for the person to repeat.
        returncode: as the system gave it.
        said: what wsl.exe printed itself; errors of the Windows side are told by it.
    """
    end = understand_exit(returncode, said)
    if end.ended is Ended.BY_WINDOWS:
        code, _ = failure_code(" ".join(argv), end.number, said)
        return JobEnd(None, code)
    return JobEnd(end.code)

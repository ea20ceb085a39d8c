"""What every host offers. Steps know this and nothing else of the world outside.

Two machines hide behind one host: the computer that the person sits at, and the Linux in which training
happens. On Linux they are the same. On Windows `run` and `start` act inside the distribution, `elevate`
and the facts concern Windows, and the two path methods translate between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol

from wsl_bootstrap.codes import Code, make_code


class HostError(Exception):
    """A command could not be run to its end; `code` says why, `retryable` whether again may help."""

    def __init__(self, code: Code, *, retryable: bool = False) -> None:
        super().__init__(f"{code.id} {dict(code.args)}")
        self.code = code
        self.retryable = retryable


class CommandNotFoundError(HostError):
    """There is no such program, or it may not be run."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(make_code("command_not_found", command=argv[0]))


class CommandTimeoutError(HostError):
    """The command did not end in time and was ended, with everything it had started."""

    def __init__(self, argv: Sequence[str], timeout_s: float) -> None:
        code = make_code("command_timeout", command=" ".join(argv)[:200], timeout_s=timeout_s)
        super().__init__(code, retryable=True)


class ElevationRefusedError(HostError):
    """The person did not grant administrator rights, or there is no way to ask for them."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(make_code("elevation_refused", command=" ".join(argv)[:200]))


@dataclass(frozen=True)
class HostFacts:
    """What the computer is. Cheap to gather; a new snapshot each time."""

    os: str  # "linux" or "windows"
    os_name: str  # as the system calls itself
    os_build: str  # kernel release, or the Windows build
    boot_id: str  # differs after each start of the system
    cpu_count: int
    memory_total_bytes: int  # what programs may use: a container's limit where there is one
    memory_available_bytes: int


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU as its driver describes it."""

    name: str
    memory_bytes: int
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class GpuFacts:
    """What the driver answers. Without GPUs, `problem` says why when a driver is there and failed.

    A driver version without GPUs: Windows has the driver, but it does not work in the distribution.
    """

    gpus: tuple[Gpu, ...] = ()
    driver_version: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end. A negative exit code is the number of the signal that ended it."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    wall_s: float

    @property
    def ok(self) -> bool:
        """Whether it ended with exit code 0."""
        return self.exit_code == 0


class Process(Protocol):
    """A running command whose output is read as it comes."""

    @property
    def pid(self) -> int:
        """Its process id, on the machine where it runs."""
        ...

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        ...

    def read_line(self, timeout_s: float) -> str | None:
        """Return the next line of stdout or stderr without its end, or None when none came in time."""
        ...

    @property
    def drained(self) -> bool:
        """Whether it has ended and its last line was read."""
        ...

    def stop(self, grace_s: float) -> None:
        """End it with everything it started: politely, and by force after `grace_s`. Safe to repeat."""
        ...


class Host(Protocol):
    """The only door to the outside."""

    def facts(self) -> HostFacts:
        """Return what the computer is."""
        ...

    def gpu_facts(self) -> GpuFacts:
        """Ask the GPU's driver; apart from `facts` because a sick driver takes seconds to answer."""
        ...

    def free_disk_bytes(self, path: PurePath) -> int:
        """Return the free space where `path` is or would be made."""
        ...

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: PurePath | None = None,
    ) -> Completed:
        """Run a command to its end. `env` is added to the environment; stdin is empty.

        Raises:
            CommandNotFoundError: there is no such program.
            CommandTimeoutError: it took longer than `timeout_s`; nothing of it runs any more.
        """
        ...

    def command(self, argv: Sequence[str], cwd: PurePath | None = None) -> list[str]:
        """Return the command line of this computer by which `argv` runs as it does under `start`."""
        ...

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables that this computer has to add for `env` to reach such a command."""
        ...

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: PurePath | None = None
    ) -> Process:
        """Start a command in a process group of its own. `env` is added; stdin is empty.

        Raises:
            CommandNotFoundError: there is no such program.
        """
        ...

    def elevate(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a command with administrator rights, asking the person by the system's own means.

        Raises:
            ElevationRefusedError: they were not granted.
            CommandTimeoutError, CommandNotFoundError: as in `run`.
        """
        ...

    def to_linux_path(self, path: Path) -> str:
        """Return the path by which commands under `run` know a file of this computer."""
        ...

    def to_host_path(self, path: str) -> Path:
        """Return the path by which this computer knows a file of the Linux side."""
        ...

    def open_link(self, url: str) -> None:
        """Open a web page in the person's browser.

        Raises:
            ValueError: it is not a web page.
            CommandNotFoundError: there is no browser to ask.
        """
        ...

"""Where the trainer's programs run: on this computer, or inside the distribution behind it.

The window names files by their paths on this computer. A place says how its programs know them, brings big
ones to where they are read fast, and turns a trainer's arguments into a command that this computer starts.
What only reads files and needs no torch (inspecting, converting) runs on this computer in either case.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from runner_gui.services import commands
from runner_gui.services.commands import CACHE_VARIABLE, EVENTS_VARIABLE, Command, Naming
from trainer.contract.params import with_paths
from trainer.contract.run_folder import RunFolder
from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.jobs.job import RECORDS, WslJob, job_name
from wsl_bootstrap.jobs.staging import Staging
from wsl_bootstrap.step import Progress

OnProgress = Callable[[Progress], None]
INDEX_FILE = "copied-files.json"
# A trainer is heard of every five seconds; only of one that was is it worth while to ask inside.
_FRESH_S = 60.0


class Place(Protocol):
    """Where jobs run."""

    def bring(self, files: Sequence[Path], on_progress: OnProgress, cancel: CancelToken) -> Naming:
        """Have files at hand, in a worker thread, and return how programs name them and all others.

        Raises:
            StepError, HostError: they cannot be; CancelledError.
        """
        ...

    def bring_converted(self, prefix: Path, on_progress: OnProgress, cancel: CancelToken) -> None:
        """Have data that was converted into this computer's cache in the cache of the place's trainer too.

        Raises:
            StepError, HostError: it cannot be; CancelledError.
        """
        ...

    def trainer(
        self,
        args: Sequence[str],
        work: Path,
        *,
        cache: Path | None = None,
        env: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> Command:
        """Return the command of the trainer that works on a file or folder.

        Args:
            cache: where it keeps converted data, if that matters and it is on this computer.
            env: additions to its environment.
            quiet: nobody reads what it prints; its events are in the run folder.
        """
        ...

    def result_name(self, output: Path) -> Path:
        """Return where a result is made that is to become `output`; to be named like any other file."""
        ...

    def deliver(self, output: Path, on_progress: OnProgress, cancel: CancelToken) -> None:
        """Bring a result to `output`, verified.

        Raises:
            StepError, HostError: it could not be; CancelledError.
        """
        ...

    def original(self, name: str) -> Path:
        """Return the file of this computer that a run's record means by a name."""
        ...

    def is_held(self, run: RunFolder) -> bool:
        """Whether a trainer works in a run, as far as its lock does not say so already."""
        ...

    def watch(self, run: RunFolder) -> Command | None:
        """Return the command that lasts as long as the run's trainer; None where the run's lock tells."""
        ...

    def keep_awake(self, on: bool) -> None:
        """Keep the computer from sleeping, or no longer. For the thread of the event loop."""
        ...


def originals(place: Place, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's parameters with the files of this computer, for the form and for going on."""
    return with_paths(params, lambda path: str(place.original(path)))


def files_of(params: Mapping[str, Any]) -> list[Path]:
    """Return the files that parameters name."""
    found: list[Path] = []

    def note(path: str) -> str:
        found.append(Path(path))
        return path

    with_paths(params, note)
    return found


class Here:
    """This computer, with the interpreter that has the trainer ("" for our own). See `Place`."""

    def __init__(self, interpreter: str = "") -> None:
        self._interpreter = interpreter

    def bring(self, files: Sequence[Path], on_progress: OnProgress, cancel: CancelToken) -> Naming:
        return commands.absolute

    def bring_converted(self, prefix: Path, on_progress: OnProgress, cancel: CancelToken) -> None:
        """It is there already: the trainer is told of the same cache."""

    def trainer(
        self,
        args: Sequence[str],
        work: Path,
        *,
        cache: Path | None = None,
        env: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> Command:
        return commands.with_env(commands.trainer_command(self._interpreter, *args, cache=cache), env or {})

    def result_name(self, output: Path) -> Path:
        return output

    def deliver(self, output: Path, on_progress: OnProgress, cancel: CancelToken) -> None:
        """It is there already."""

    def original(self, name: str) -> Path:
        return Path(name)

    def is_held(self, run: RunFolder) -> bool:
        return False

    def watch(self, run: RunFolder) -> Command | None:
        return None

    def keep_awake(self, on: bool) -> None:
        """Nothing to do: a desktop of Linux does not sleep under load unless it was told to."""


class InDistribution:
    """The distribution behind wsl.exe. See `Place`.

    Run folders stay on Windows: events and checkpoints are written there as they come, and outlive whatever
    happens to the distribution. Models and data are read from copies inside.

    Args:
        host: Windows.
        environment: the Python environment inside; what is copied and made lies beside it.
        cache: the folder of this computer that remembers what was copied.
    """

    def __init__(self, host: WindowsHost, environment: Environment, cache: Path) -> None:
        self._host, self._python = host, environment.python
        self._root = PurePosixPath(environment.folder.parent)
        self._files, self._merged = self._root / "files", self._root / "merged"
        self._staging = Staging(host, environment.python, cache / INDEX_FILE, self._files)

    def bring(self, files: Sequence[Path], on_progress: OnProgress, cancel: CancelToken) -> Naming:
        copies = {
            file: file.as_posix() if self._is_inside(file) else self._staging.bring(file, on_progress, cancel)
            for file in dict.fromkeys(files)
        }

        def name(path: Path) -> str:
            if path in copies:
                return copies[path]
            if self._is_inside(path):
                return path.as_posix()
            return self._host.to_linux_path(Path(commands.absolute(path)))

        return name

    def bring_converted(self, prefix: Path, on_progress: OnProgress, cancel: CancelToken) -> None:
        copied = self._staging.bring(prefix.parent, on_progress, cancel)
        self._staging.link(copied, self._root / "cache" / "data" / prefix.parent.name)

    def trainer(
        self,
        args: Sequence[str],
        work: Path,
        *,
        cache: Path | None = None,
        env: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> Command:
        job = self._job(args[0], work)
        inside = {"PYTHONUNBUFFERED": "1", EVENTS_VARIABLE: "1", CACHE_VARIABLE: str(self._root / "cache")}
        argv = (self._python, "-m", "trainer", *args)
        line = job.line(argv, {**inside, **(env or {})}, cwd=self._root, quiet=quiet)
        return Command(line.argv, None, line.env, job)

    def result_name(self, output: Path) -> Path:
        return Path(self._merged / output.name)

    def deliver(self, output: Path, on_progress: OnProgress, cancel: CancelToken) -> None:
        self._staging.fetch((self._merged / output.name).as_posix(), output, on_progress, cancel)

    def original(self, name: str) -> Path:
        path = Path(name)
        if not self._is_inside(path):
            return path
        return self._staging.origin(path.as_posix()) or path

    def is_held(self, run: RunFolder) -> bool:
        try:
            heard_s = time.time() - run.events.stat().st_mtime
        except OSError:
            return False
        return heard_s < _FRESH_S and run.summary() is None and self._job("train", run.path).is_alive()

    def watch(self, run: RunFolder) -> Command | None:
        job = self._job("train", run.path)
        line = job.watch_line()
        return Command(line.argv, None, line.env, job)

    def keep_awake(self, on: bool) -> None:
        self._host.windows.keep_awake(on)

    def _is_inside(self, path: Path) -> bool:
        """Whether it is the name of a file of ours inside; on Windows such a path has no drive."""
        return path.as_posix().startswith((f"{self._files}/", f"{self._merged}/"))

    def _job(self, kind: str, work: Path) -> WslJob:
        return WslJob(self._host, job_name(kind, work), RECORDS)


def place_for(host: Host, environment: Environment, interpreter: str, cache: Path) -> Place:
    """Return where jobs run behind this host."""
    if isinstance(host, WindowsHost):
        return InDistribution(host, environment, cache)
    return Here(interpreter)

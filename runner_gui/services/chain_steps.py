"""The pipeline's own steps, beside those of set-up, as the engine walks them: convert, train, merge, use.

They run in the engine's worker thread. What they need done in the thread of the event loop goes through
`WorkerJobs` and the `Trainings` that they are given.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runner_gui.model.problems import as_code
from runner_gui.services import commands
from runner_gui.services.commands import Command, Naming
from runner_gui.services.jobs import WorkerJobs
from runner_gui.services.outcome import JobOutcome, problem_of
from runner_gui.services.place import Here, Place
from trainer.contract.errors import Problem
from trainer.contract.events import Event
from trainer.contract.run_folder import RunFolder
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.step import OnEvent, Outcome, OutputLine, Plan, Probe, Progress, StepError

NOT_YET = make_code("smoke_not_run")


@dataclass(frozen=True, slots=True)
class Warned:
    """Something unusual that a step's command reported and went on after."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """What to convert, the model whose vocabulary it is for, and the flags that say how it is read."""

    data: str
    vocab: str | None
    base_model: str
    render: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """A run to train: a new one, or one to go on with.

    `make_args` returns the trainer's arguments, once it is known how it names the `files`.
    """

    folder: RunFolder
    files: tuple[Path, ...]
    make_args: Callable[[Naming], list[str]]


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """An adapter to merge into its base; `options` are further flags of the trainer's `merge`."""

    base: Path
    adapter: Path
    output: Path
    options: tuple[str, ...] = ()


class Trainings(Protocol):
    """Runs a training in the thread of the event loop, while the worker waits."""

    def train(self, folder: RunFolder, command: Command, cancel: CancelToken) -> JobOutcome:
        """Have a trainer's command work in a run folder, to the end.

        Raises:
            CancelledError: the window went away, or the run was let go.
        """
        ...


class _JobStep:
    """What steps that run one of the trainer's commands have in common."""

    def __init__(self, jobs: WorkerJobs, place: Place) -> None:
        self._jobs = jobs
        self._place = place

    def _run(self, args: list[str], work: Path, on_event: OnEvent, cancel: CancelToken) -> JobOutcome:
        def on_item(item: Event | str) -> None:
            if isinstance(item, str):
                on_event(OutputLine(item))
            elif item.t == "progress":
                on_event(Progress(item.get("done") or 0, item.get("total"), str(item.get("unit") or "")))
            elif item.t == "warning":
                on_event(Warned(problem_of(item)))

        outcome = self._jobs.run(self._place.trainer(args, work), on_item, cancel)
        raise_unless_done(outcome)
        return outcome


def raise_unless_done(outcome: JobOutcome) -> None:
    """Turn the end of a command into the engine's words.

    Raises:
        StepError: it failed; CancelledError: it was stopped.
    """
    if outcome.problem is not None:
        raise StepError(as_code(outcome.problem))
    if outcome.status != "completed":
        raise CancelledError


class ConvertStep(_JobStep):
    """Text to tokens, in a cache keyed by content: the trainer finds it there again."""

    id = "convert"
    requires: tuple[str, ...] = ()

    def __init__(self, jobs: WorkerJobs, cache: Path) -> None:
        super().__init__(jobs, Here())  # needs no torch, and so no environment
        self._cache = cache
        self.request: ConvertRequest | None = None
        self._done: tuple[ConvertRequest, int] | None = None
        self._value = ""
        self.prefix: Path | None = None  # of what was converted last, where that is in the cache

    def probe(self, host: Host) -> Probe:
        """Satisfied while the data looks as it did when it was converted (sizes and times of its files)."""
        if self.request is None or self._done != (self.request, _look_of(self.request)):
            return Probe.missing(NOT_YET)
        return Probe.satisfied(self._value)

    def plan(self, host: Host, options: object) -> Plan:
        return Plan(self.id)

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Read the model's header first: what is wrong with it is better known before the work.

        Raises:
            StepError: either file is not what it should be; CancelledError.
        """
        request = self.request
        if request is None:
            raise CancelledError
        look = _look_of(request)
        base = Path(request.base_model)
        model = self._run(commands.inspect_args(base), base, on_event, cancel)
        size = (model.result or {}).get("vocab_size")
        args = commands.convert_args(
            request.data, request.vocab, self._cache, size if isinstance(size, int) else None, request.render
        )
        result = self._run(args, base, on_event, cancel).result or {}
        self._value = _size_text(result)
        prefix = Path(str(result.get("prefix", "")))
        self.prefix = prefix if prefix.is_relative_to(commands.absolute(self._cache)) else None
        self._done = (request, look)
        return Outcome()


class TrainStep:
    """The run that was asked for last."""

    id = "train"
    requires: tuple[str, ...] = ("convert", "smoke_test")

    def __init__(self, trainings: Trainings, place: Place, cache: Path, conversion: ConvertStep) -> None:
        self._trainings = trainings
        self._place = place
        self._cache = cache
        self._conversion = conversion
        self.request: TrainRequest | None = None
        self._done: TrainRequest | None = None

    def probe(self, host: Host) -> Probe:
        """Satisfied once the run that was asked for has come to its end."""
        if self.request is None or self.request is not self._done:
            return Probe.missing(NOT_YET)
        return Probe.satisfied(self.request.folder.run_id)

    def plan(self, host: Host, options: object) -> Plan:
        return Plan(self.id)

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Train.

        Raises:
            StepError: it failed; CancelledError: it was stopped, or goes on without this window.
        """
        request = self.request
        if request is None:
            raise CancelledError
        name = self._place.bring(request.files, on_event, cancel)
        if (
            self._conversion.prefix is not None
        ):  # the trainer knows it by its content and does not do it again
            self._place.bring_converted(self._conversion.prefix, on_event, cancel)
        folder = request.folder
        command = self._place.trainer(request.make_args(name), folder.path, cache=self._cache, quiet=True)
        raise_unless_done(self._trainings.train(folder, command, cancel))
        self._done = request
        return Outcome()


class MergeStep(_JobStep):
    """Base and adapter to one file. The trainer verifies it before it calls it done."""

    id = "merge"
    requires: tuple[str, ...] = ()

    def __init__(self, jobs: WorkerJobs, place: Place) -> None:
        super().__init__(jobs, place)
        self.request: MergeRequest | None = None
        self._done: MergeRequest | None = None

    def probe(self, host: Host) -> Probe:
        """Satisfied by the file of the merge that was done last, as long as it is there."""
        request = self.request
        if request is None or request is not self._done or not request.output.is_file():
            return Probe.missing(NOT_YET)
        return Probe.satisfied(request.output.name)

    def plan(self, host: Host, options: object) -> Plan:
        return Plan(self.id)

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Merge.

        Raises:
            StepError: it failed; CancelledError.
        """
        if self.request is None:
            raise CancelledError
        request = self.request
        name = self._place.bring([request.base], on_event, cancel)
        made = self._place.result_name(request.output)
        args = commands.merge_args(request.base, request.adapter, made, name, request.options)
        self._run(args, request.output, on_event, cancel)
        self._place.deliver(request.output, on_event, cancel)
        self._done = request
        return Outcome()


def _look_of(request: ConvertRequest) -> int:
    """A number that changes when the files of a request do: their names, sizes and times."""
    paths = [Path(request.data), Path(request.base_model)]
    if request.vocab is not None:
        paths.append(Path(request.vocab))
    return hash(tuple(entry for path in paths for entry in _entries(path)))


def _entries(path: Path) -> Iterator[tuple[str, int, int]]:
    try:
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            yield str(path), found.st_size, found.st_mtime_ns
            return
        for folder, _, names in os.walk(path):
            for name in sorted(names):
                file = os.stat(os.path.join(folder, name), follow_symlinks=False)
                yield os.path.join(folder, name), file.st_size, file.st_mtime_ns
    except OSError:
        # What cannot be read now is reported by the conversion, in words.
        yield str(path), -1, -1


def _size_text(result: Any) -> str:
    tokens = result.get("tokens")
    return f"{tokens:,}" if isinstance(tokens, int) else ""

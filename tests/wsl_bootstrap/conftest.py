"""A scripted computer, and steps that act on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.hosts.base import (
    CommandNotFoundError,
    Completed,
    ElevationRefusedError,
    GpuFacts,
    Host,
    HostFacts,
)
from wsl_bootstrap.step import OnEvent, Outcome, Plan, Probe

LINUX = HostFacts(
    os="linux",
    os_name="Debian GNU/Linux 12 (bookworm)",
    os_build="6.1.0",
    boot_id="boot-1",
    cpu_count=8,
    memory_total_bytes=32 * 10**9,
    memory_available_bytes=24 * 10**9,
)
WINDOWS = replace(LINUX, os="windows", os_name="Windows 11 Pro", os_build="26100")


@dataclass
class FakeProcess:
    """A process that has said all its lines."""

    lines: list[str]
    code: int
    stopped: int = 0
    pid: int = 4711

    @property
    def exit_code(self) -> int | None:
        return None if self.lines and not self.stopped else self.code

    @property
    def drained(self) -> bool:
        return not self.lines

    def read_line(self, timeout_s: float) -> str | None:
        return self.lines.pop(0) if self.lines else None

    def stop(self, grace_s: float) -> None:
        self.stopped += 1


@dataclass
class FakeHost:
    """Answers from a script: `answers` maps the beginning of a command line to what it gives.

    A command that the script does not know is not found, as on a bare computer. `effects` holds what
    steps changed: it is the "disk" of this computer, and survives the engine.
    """

    host_facts: HostFacts = LINUX
    gpus: GpuFacts = field(default_factory=GpuFacts)
    free_bytes: int = 200 * 10**9
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    processes: list[FakeProcess] = field(default_factory=list)

    def reboot(self) -> None:
        number = int(self.host_facts.boot_id.removeprefix("boot-")) + 1
        self.host_facts = replace(self.host_facts, boot_id=f"boot-{number}")

    def facts(self) -> HostFacts:
        return self.host_facts

    def gpu_facts(self) -> GpuFacts:
        return self.gpus

    def free_disk_bytes(self, path: Path) -> int:
        return self.free_bytes

    def _answer(self, argv: Sequence[str]) -> tuple[int, str]:
        self.commands.append(tuple(argv))
        line = " ".join(argv)
        matching = [beginning for beginning in self.answers if line.startswith(beginning)]
        if not matching:
            raise CommandNotFoundError(argv)
        return self.answers[max(matching, key=len)]

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Completed:
        exit_code, output = self._answer(argv)
        return Completed(tuple(argv), exit_code, output if exit_code == 0 else "", output, 0.01)

    def command(self, argv: Sequence[str], cwd: Path | None = None) -> list[str]:
        return list(argv)

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        return dict(env or {})

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> FakeProcess:
        locked = tuple(argv[:2]) == ("sh", "-c") and "flock" in argv[2]  # around an installation
        exit_code, output = self._answer(argv[4:] if locked else argv)
        self.processes.append(FakeProcess(output.splitlines(), exit_code))
        return self.processes[-1]

    def elevate(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        raise ElevationRefusedError(argv)

    def to_linux_path(self, path: Path) -> str:
        return str(path)

    def to_host_path(self, path: str) -> Path:
        return Path(path)

    def open_link(self, url: str) -> None:
        self.commands.append(("open", url))


@dataclass(frozen=True)
class FakeStep:
    """Missing until it was applied on this host; with `reboot`, until the boot after that.

    `trouble` is called with the attempts so far at the beginning of each and may raise.
    """

    host: FakeHost
    id: str
    requires: tuple[str, ...] = ()
    reboot: bool = False
    download_bytes: int = 10
    trouble: Callable[[int, CancelToken], None] = lambda attempts, cancel: None
    calls: list[str] = field(default_factory=list)

    def probe(self, host: Host) -> Probe:
        boot_id = host.facts().boot_id
        made = [effect.split("@") for effect in self.host.effects]
        if any(step == self.id and not (self.reboot and boot == boot_id) for step, boot in made):
            return Probe.satisfied("made")
        return Probe.missing(make_code("torch_missing"))

    def plan(self, host: Host, options: str) -> Plan:
        return Plan(
            self.id, (("make", self.id, options),), reboot=self.reboot, download_bytes=self.download_bytes
        )

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        self.calls.append(plan.step_id)
        self.trouble(len(self.calls) - 1, cancel)
        on_event(f"making {self.id}")
        self.host.effects.append(f"{self.id}@{host.facts().boot_id}")
        return Outcome(reboot=self.reboot)


@dataclass(frozen=True)
class FakeCheck:
    """Finds what it is told to."""

    id: str
    finding: Probe
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        return self.finding


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def fakes() -> ModuleType:
    """This module: test files, having no package, cannot import it."""
    return sys.modules[__name__]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """End with the table: scenario, outcome, code; only where it was asked for, since it is long."""
    if not os.environ.get("RUNNER_SCENARIO_TABLE"):
        return
    rows = set()
    for report in terminalreporter.getreports("passed"):
        facts = dict(report.user_properties)
        scenarios = [value for name, value in report.user_properties if name == "scenario"]
        rows |= {(scenario, facts["outcome"], facts["code"]) for scenario in scenarios}
    terminalreporter.section("computers and how set-up ends there")
    for scenario, outcome, code in sorted(rows):
        terminalreporter.write_line(f"{scenario:<56} | {outcome:<12} | {code}")

"""The virtual environment, with everything that needs no torch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.environment import PYTHON_VERSIONS, Environment, SetupOptions
from wsl_bootstrap.hosts.base import CommandNotFoundError, Host
from wsl_bootstrap.interpreter import InterpreterError, PythonFacts, ask_python
from wsl_bootstrap.live import install
from wsl_bootstrap.step import OnEvent, Outcome, Plan, Probe

# What the trainer imports before torch; a part of the project's own dependencies.
BASE_PACKAGES = (
    "numpy",
    "psutil",
    "pydantic",
    "platformdirs",
    "filelock",
    "charset-normalizer",
    "orjson",
    "tokenizers",
    "pyrwkv-tokenizer",
    "safetensors",
)
# Measured on Linux with Python 3.11, rounded up.
DOWNLOAD_BYTES = 130 * 10**6
DISK_BYTES = 400 * 10**6


@dataclass(frozen=True)
class PythonEnvStep:
    """An environment that works, of a Python that every dependency has wheels for."""

    environment: Environment
    id: str = "python_env"
    requires: tuple[str, ...] = ("distro", "disk")

    def probe(self, host: Host) -> Probe:
        """Ask the environment's interpreter, and where there is none, the one that would make it."""
        python = self.environment.python
        try:
            facts = ask_python(host, python, BASE_PACKAGES)
        except CommandNotFoundError:
            return self._probe_base(host)
        except InterpreterError as problem:
            return Probe.missing(make_code("venv_broken", path=python, detail=str(problem)))
        if not _supported(facts):
            return _unsupported(python, facts)
        if facts.missing_packages:
            return Probe.missing(
                make_code("packages_missing", packages=", ".join(facts.missing_packages)), facts.version_text
            )
        return Probe.satisfied(facts.version_text)

    def plan(self, host: Host, options: SetupOptions) -> Plan:
        """Make the environment where none works, then install the project into it."""
        environment = self.environment
        mirror = ("--index-url", options.index_url) if options.index_url else ()
        packages = (*mirror, *environment.tested_versions(), *environment.requirement())
        make = (environment.base_python, "-m", "venv", str(environment.folder))
        return Plan(
            self.id,
            commands=(*(() if self._works(host) else (make,)), environment.pip_install(packages)),
            download_bytes=DOWNLOAD_BYTES,
            disk_bytes=DISK_BYTES,
        )

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Run the plan's commands, which pass over what is there already."""
        install(host, plan, self.environment.folder, on_event, cancel)
        return Outcome()

    def _works(self, host: Host) -> bool:
        try:
            ask_python(host, self.environment.python, ())
        except (CommandNotFoundError, InterpreterError):
            return False
        return True

    def _probe_base(self, host: Host) -> Probe:
        base = self.environment.base_python
        try:
            facts = ask_python(host, base, ())
        except InterpreterError as problem:
            return Probe.blocked(make_code("python_broken", path=base, detail=str(problem)))
        if not _supported(facts):
            return _unsupported(base, facts)
        if not facts.can_make_venv:
            package = f"python{facts.version[0]}.{facts.version[1]}-venv"
            command = shlex.join(["sudo", "apt-get", "install", package])
            return Probe.blocked(make_code("venv_module_missing", path=base, command=command))
        return Probe.missing(make_code("venv_missing", path=str(self.environment.folder)))


def _supported(facts: PythonFacts) -> bool:
    oldest, newest = PYTHON_VERSIONS
    return oldest <= facts.version[:2] <= newest


def _unsupported(python: str, facts: PythonFacts) -> Probe:
    need = "–".join(f"{major}.{minor}" for major, minor in PYTHON_VERSIONS)
    code = make_code("python_unsupported", path=python, found=facts.version_text, need=need)
    return Probe.blocked(code, facts.version_text)

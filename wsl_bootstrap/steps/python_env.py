"""The virtual environment, with everything that needs no torch."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.distribution import is_own
from wsl_bootstrap.environment import PYTHON_VERSIONS, Environment, SetupOptions
from wsl_bootstrap.hosts.base import CommandNotFoundError, Host
from wsl_bootstrap.hosts.windows import WindowsHost
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
# Points every list of apt's at one server, or back to where it was; sed keeps the first original.
_USE_MIRROR = """\
set -e
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -f "$list" ] || continue
    [ -f "$list.orig" ] || cp "$list" "$list.orig"
    cp "$list.orig" "$list"
    [ -z "$1" ] || sed -E -i "s#https?://[^/ ]+/(ubuntu|debian|debian-security)(/| |$)#$1/\\1\\2#" "$list"
done
"""


@dataclass(frozen=True)
class PythonEnvStep:
    """An environment that works, of a Python that every dependency has wheels for."""

    environment: Environment
    id: str = "python_env"
    requires: tuple[str, ...] = ("distro", "disk", "network")

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
        if self._is_stale(host, facts):
            have = facts.ours.version if facts.ours is not None else "–"
            return Probe.missing(make_code("trainer_differs", have=have), facts.version_text)
        return Probe.satisfied(facts.version_text)

    def plan(self, host: Host, options: SetupOptions) -> Plan:
        """Make the environment where none works, then install the project into it."""
        environment = self.environment.seen_from(host)
        packages = (*options.pip_arguments(), *environment.tested_versions())
        ours = environment.pip_install((*options.pip_arguments(), "--no-deps", *environment.requirement()))
        if environment.inside:  # what is the window's stays on Windows
            installs = (environment.pip_install((*packages, *BASE_PACKAGES)), ours)
            if self._lacks_only_ours(host):
                return Plan(self.id, commands=(ours,))
        else:
            installs = (environment.pip_install((*packages, *environment.requirement())),)
        make = (environment.base_python, "-m", "venv", environment.folder.as_posix())
        before = () if self._works(host) else (*self._system_commands(host, options), make)
        return Plan(
            self.id,
            commands=(*before, *installs),
            download_bytes=DOWNLOAD_BYTES,
            disk_bytes=DISK_BYTES,
        )

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Run the plan's commands, which pass over what is there already."""
        install(host, plan, self.environment.folder, on_event, cancel)
        return Outcome()

    def _system_commands(self, host: Host, options: SetupOptions) -> tuple[tuple[str, ...], ...]:
        """Return what installs the packages of the distribution that the environment stands on."""
        if not self.environment.system_packages:
            return ()
        settings = ("-o", "DPkg::Lock::Timeout=300", "-o", "APT::Update::Error-Mode=any")
        if options.proxy:
            settings += (
                "-o",
                f"Acquire::http::Proxy={options.proxy}",
                "-o",
                f"Acquire::https::Proxy={options.proxy}",
            )
        apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", *settings)
        # Sources are changed in a distribution of our own, never in the person's.
        own = isinstance(host, WindowsHost) and is_own(host)
        mirror = ("sh", "-c", _USE_MIRROR, "sh", options.source.system or "")
        return (
            *((mirror,) if own else ()),
            ("dpkg", "--configure", "-a"),  # an installation that was cut off stands in the way of the next
            (*apt, "update"),
            (*apt, "install", "--no-install-recommends", *self.environment.system_packages),
        )

    def _is_stale(self, host: Host, facts: PythonFacts) -> bool:
        """Return whether the trainer inside is another than the one that belongs to this window."""
        environment = self.environment.seen_from(host)
        return bool(environment.inside) and not environment.holds(facts.ours)

    def _lacks_only_ours(self, host: Host) -> bool:
        try:
            facts = ask_python(host, self.environment.python, BASE_PACKAGES)
        except (CommandNotFoundError, InterpreterError):
            return False
        return not facts.missing_packages

    def _works(self, host: Host) -> bool:
        try:
            ask_python(host, self.environment.python, ())
        except (CommandNotFoundError, InterpreterError):
            return False
        return True

    def _probe_base(self, host: Host) -> Probe:
        base = self.environment.base_python
        missing = Probe.missing(make_code("venv_missing", path=self.environment.folder.as_posix()))
        try:
            facts = ask_python(host, base, ())
        except CommandNotFoundError:
            if self.environment.system_packages:
                return missing
            raise
        except InterpreterError as problem:
            return Probe.blocked(make_code("python_broken", path=base, detail=str(problem)))
        if not _supported(facts):
            return _unsupported(base, facts)
        if not facts.can_make_venv and not self.environment.system_packages:
            package = f"python{facts.version[0]}.{facts.version[1]}-venv"
            command = shlex.join(["sudo", "apt-get", "install", package])
            return Probe.blocked(make_code("venv_module_missing", path=base, command=command))
        return missing


def _supported(facts: PythonFacts) -> bool:
    oldest, newest = PYTHON_VERSIONS
    return oldest <= facts.version[:2] <= newest


def _unsupported(python: str, facts: PythonFacts) -> Probe:
    need = "–".join(f"{major}.{minor}" for major, minor in PYTHON_VERSIONS)
    code = make_code("python_unsupported", path=python, found=facts.version_text, need=need)
    return Probe.blocked(code, facts.version_text)

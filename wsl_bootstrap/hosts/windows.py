"""Windows with a Linux distribution behind wsl.exe.

`facts`, `elevate` and `open_link` concern Windows; `run`, `start` and `free_disk_bytes` act inside the
distribution. Commands go in as an argument list (`-e`), never as a line for a shell.
"""

from __future__ import annotations

import configparser
import logging
import os
import subprocess
import time
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from wsl_bootstrap.elevated import CANCELLED, Action
from wsl_bootstrap.hosts.base import (
    CommandNotFoundError,
    CommandTimeoutError,
    Completed,
    ElevationRefusedError,
    Gpu,
    GpuFacts,
    HostError,
    HostFacts,
)
from wsl_bootstrap.hosts.linux import NVIDIA_QUERY, parse_nvidia_smi
from wsl_bootstrap.hosts.process import LocalProcess, run_to_end
from wsl_bootstrap.hosts.windows_facts import Windows, WindowsSnapshot
from wsl_bootstrap.hosts.wsl_paths import AUTOMOUNT_ROOT, PathError, to_linux, to_windows
from wsl_bootstrap.wsl_errors import failure_code
from wsl_bootstrap.wsl_output import Ended, decode, understand_exit

LOG = logging.getLogger(__name__)

WSL_VARIABLE = "RUNNER_WSL_EXE"
LINUX_NVIDIA_SMI = "/usr/lib/wsl/lib/nvidia-smi"
_TIMED_OUT = 124  # of `timeout`
_NOT_RUN = (126, 127)  # of `timeout` and `sh`: not to be run, not found
_BACKSTOP_S = 20.0  # beyond the time that the program inside has: wsl.exe itself may hang, or boot slowly
_SHORT_S = 20.0
_BOOT_S = 120.0
_GPU_MEMORY_S = 5.0
_ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONUTF8": "1"}
# Says the process id inside, then becomes the command: one that cannot be found ends before it is said.
_ANNOUNCE = 'command -v "$1" >/dev/null || exit 127; echo "$$"; exec "$@"'


class WslFailedError(HostError):
    """wsl.exe failed, not the program inside; the code says how, `exit_code` and `output` are its own."""

    def __init__(self, argv: Sequence[str], exit_code: int, output: str) -> None:
        code, retryable = failure_code(subprocess.list2cmdline(argv), exit_code, output)
        super().__init__(code, retryable=retryable)
        self.exit_code = exit_code
        self.output = output


class WslExe:
    """The program wsl.exe: its full path, and calls with a time-out and bytes understood."""

    def __init__(self, path: str) -> None:
        self.path = path

    def call(self, *arguments: str, timeout_s: float, stdin: bytes = b"") -> Completed:
        """Run wsl.exe and return how it ended, whatever that is.

        Raises:
            CommandNotFoundError, CommandTimeoutError: as in `Host.run`.
        """
        return run_to_end(
            [self.path, *arguments], timeout_s=timeout_s, env={"WSL_UTF8": "1"}, stdin=stdin, decode=decode
        )

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: PurePath | None = None
    ) -> LocalProcess:
        """Start a command of wsl.exe's own whose output is read as it comes."""
        return LocalProcess([self.path, *argv], {"WSL_UTF8": "1", **(env or {})}, cwd)

    def manage(self, *arguments: str, timeout_s: float) -> Completed:
        """Run a command of wsl.exe's own.

        Raises:
            WslFailedError: it failed.
            CommandNotFoundError, CommandTimeoutError: as in `Host.run`.
        """
        done = self.call(*arguments, timeout_s=timeout_s)
        if done.exit_code != 0:
            raise WslFailedError(done.argv, done.exit_code & 0xFFFFFFFF, done.stdout + done.stderr)
        return done


class WindowsHost:
    """See `hosts.base.Host`.

    Args:
        windows: the system.
        distribution: name of the distribution that trains; it need not exist yet.
        wsl: the path of wsl.exe; None for the one of System32, which nothing on PATH can stand before.
        user: as whom commands run inside.
    """

    def __init__(
        self, windows: Windows, distribution: str, *, wsl: str | None = None, user: str = "root"
    ) -> None:
        self.windows = windows
        self.distribution = distribution
        self.user = user
        path = wsl or str(PureWindowsPath(windows.snapshot().system_root, "System32", "wsl.exe"))
        self.wsl = WslExe(path)
        self._automount: tuple[str, str] | None = None  # distribution and root, once read
        self._gpu: tuple[float, GpuFacts] | None = None

    # Windows

    def facts(self) -> HostFacts:
        """Return what Windows is; the memory inside is another matter, told by `linux_memory_bytes`."""
        found = self.windows.snapshot()
        return HostFacts(
            os="windows",
            os_name=windows_name(found),
            os_build=f"{found.build}.{found.revision}",
            boot_id=found.boot_id,
            cpu_count=found.cpu_count,
            memory_total_bytes=found.memory_total_bytes,
            memory_available_bytes=found.memory_available_bytes,
        )

    def elevate_actions(self, actions: Sequence[Action], *, timeout_s: float) -> int:
        """Have fixed actions carried out as administrator and return the helper's exit code.

        Raises:
            ElevationRefusedError: the person said no.
            HostError: it did not end in time.
        """
        code = self.windows.elevate(actions, timeout_s)
        LOG.info("elevated %s: exit %d", [action.value for action in actions], code)
        if code == CANCELLED:
            raise ElevationRefusedError([action.value for action in actions])
        return code

    def elevate(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Refuse: on Windows only a list of fixed actions may run as administrator."""
        raise ElevationRefusedError(argv)

    def open_link(self, url: str) -> None:
        """Hand a web address to the default browser."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"not a web page: {url!r}")
        if not webbrowser.open(url):
            raise CommandNotFoundError([url])

    # The distribution

    @property
    def has_distribution(self) -> bool:
        """Whether commands can run inside at all."""
        found = self.windows.snapshot().distribution(self.distribution)
        return found is not None and found.installed and found.is_wsl2

    def command(self, argv: Sequence[str], cwd: PurePath | None = None) -> list[str]:
        """Return the Windows command line by which a command runs inside."""
        folder = "~" if cwd is None else self._inside(cwd)
        return [self.wsl.path, "-d", self.distribution, "-u", self.user, "--cd", folder, "-e", *argv]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables that hand `env` through wsl.exe, which passes what WSLENV names."""
        passed = {**_ENVIRONMENT, **(env or {})}
        names = [f"{name}/u" for name in passed]
        kept = [name for name in os.environ.get("WSLENV", "").split(":") if name]
        return {**passed, "WSLENV": ":".join([*kept, *names]), "WSL_UTF8": "1"}

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: PurePath | None = None,
        stdin: bytes = b"",
    ) -> Completed:
        """Run a command inside to its end.

        Raises:
            WslFailedError: wsl.exe could not run it.
            CommandNotFoundError, CommandTimeoutError: as in `Host.run`.
        """
        self._require_distribution(argv)
        # The clock runs inside too: ending wsl.exe alone would leave what ignores a hang-up.
        clock = f"{max(timeout_s, 1):.0f}"  # 0 would mean for ever
        line = self.command(["timeout", "--kill-after=2", clock, *argv], cwd)
        done = run_to_end(
            line,
            timeout_s=timeout_s + _BACKSTOP_S,
            env=self.environment(env),
            stdin=stdin,
            decode=decode,
        )
        end = understand_exit(done.exit_code, done.stdout)
        if end.ended is Ended.BY_WINDOWS:
            raise WslFailedError(line, end.number, done.stdout + done.stderr)
        if end.number == _TIMED_OUT:
            raise CommandTimeoutError(argv, timeout_s)
        if end.number in _NOT_RUN and done.stderr.startswith(("timeout:", "<3>WSL")):
            raise CommandNotFoundError(argv)
        return Completed(tuple(argv), end.code, done.stdout, done.stderr, done.wall_s)

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: PurePath | None = None
    ) -> WslProcess:
        """Start a command inside, held by one attached wsl.exe."""
        self._require_distribution(argv)
        return WslProcess(self, argv, env, cwd)

    def gpu_facts(self) -> GpuFacts:
        """Ask the driver on Windows, then whether it reaches the distribution; kept for some seconds."""
        now = time.monotonic()
        if self._gpu is None or now - self._gpu[0] > _GPU_MEMORY_S:
            self._gpu = (now, self._ask_gpu())
        return self._gpu[1]

    def free_disk_bytes(self, path: PurePath) -> int:
        """Return the room for a file inside: that of its file system, or of its disk's drive."""
        distribution = self.windows.snapshot().distribution(self.distribution)
        if distribution is None or not self.has_distribution:
            raise CommandNotFoundError([self.distribution])
        drive = self.windows.volume(PureWindowsPath(distribution.base_path)).free_bytes
        folder = PurePosixPath(self._inside(path))
        # The nearest folder that exists; `df` wants one.
        script = 'd=$1; until [ -e "$d" ]; do d=$(dirname "$d"); done; df -P -B1 "$d" | tail -n 1'
        done = self.run(["sh", "-c", script, "sh", str(folder)], timeout_s=_SHORT_S)
        fields = done.stdout.split()
        inside = int(fields[3]) if done.ok and len(fields) > 3 and fields[3].isdigit() else drive
        return min(drive, inside)

    def linux_memory_bytes(self) -> int | None:
        """Return the memory that the virtual machine has, or None when it does not say."""
        done = self.run(["cat", "/proc/meminfo"], timeout_s=_SHORT_S)
        for line in done.stdout.splitlines():
            name, _, rest = line.partition(":")
            if name == "MemTotal" and rest.split() and rest.split()[0].isdigit():
                return int(rest.split()[0]) * 1024
        return None

    def to_linux_path(self, path: Path) -> str:
        """Return how the distribution names a Windows file.

        Raises:
            PathError: it has no name there: a network drive, a `subst` drive, a drive that is not mounted.
        """
        windows = self.windows.windows_path(path)
        if windows.drive.endswith(":") and (kind := self.windows.volume(windows).kind) in (
            "network",
            "subst",
        ):
            raise PathError("path_on_network" if kind == "network" else "path_on_subst", windows)
        return to_linux(windows, self.distribution, self._automount_root())

    def to_host_path(self, path: str) -> Path:
        """Return how Windows names a file of the distribution."""
        return self.windows.local_path(
            to_windows(PurePosixPath(path), self.distribution, self._automount_root())
        )

    def _inside(self, path: PurePath) -> str:
        """Return a path for commands inside; a Linux path on a Windows interpreter has the wrong slashes."""
        return self.to_linux_path(Path(path)) if path.drive else path.as_posix()

    def _require_distribution(self, argv: Sequence[str]) -> None:
        """Say at once that there is nothing to run in, instead of starting wsl.exe to be told so."""
        if not self.has_distribution:
            raise CommandNotFoundError(argv)

    def _automount_root(self) -> str:
        if self._automount is not None and self._automount[0] == self.distribution:
            return self._automount[1]
        if not self.has_distribution:
            return AUTOMOUNT_ROOT
        try:
            root = automount_root(self.run(["cat", "/etc/wsl.conf"], timeout_s=_SHORT_S).stdout)
        except HostError as problem:
            LOG.warning("/etc/wsl.conf: %s", problem)
            return AUTOMOUNT_ROOT
        self._automount = (self.distribution, root)
        return root

    def _ask_gpu(self) -> GpuFacts:
        tool = PureWindowsPath(self.windows.snapshot().system_root, "System32", "nvidia-smi.exe")
        try:
            path = self.windows.local_path(tool)
            if not path.is_file():
                return GpuFacts()
            outside = run_to_end([str(path), *NVIDIA_QUERY], timeout_s=_SHORT_S)
        except HostError as problem:
            return GpuFacts(problem=str(problem))
        if not outside.ok:
            return GpuFacts(problem=(outside.stdout + outside.stderr).strip() or f"exit {outside.exit_code}")
        facts = parse_nvidia_smi(outside.stdout)
        if not facts.gpus or not self.has_distribution:
            return facts
        script = f'[ -e /dev/dxg ] || exit 75; exec {LINUX_NVIDIA_SMI} "$@"'
        try:
            inside = self.run(["sh", "-c", script, "sh", *NVIDIA_QUERY], timeout_s=_SHORT_S)
        except HostError as problem:
            return GpuFacts(driver_version=facts.driver_version, problem=str(problem))
        if not inside.ok:
            said = (inside.stdout + inside.stderr).strip() or f"{LINUX_NVIDIA_SMI}: exit {inside.exit_code}"
            return GpuFacts(
                driver_version=facts.driver_version, problem="/dev/dxg" if inside.exit_code == 75 else said
            )
        # An old driver's tool inside does not know the compute capability; the one outside may.
        return parse_nvidia_smi(inside.stdout) if _sound(inside.stdout) else facts


class WslProcess:
    """A command inside, with one attached wsl.exe for its whole life. See `hosts.base.Process`."""

    def __init__(
        self,
        host: WindowsHost,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: PurePath | None = None,
    ) -> None:
        self._host = host
        self._line = host.command(["sh", "-c", _ANNOUNCE, "sh", *argv], cwd)
        self._local = LocalProcess(self._line, host.environment(env))
        self.pid = self._await_pid(argv)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal, above 255 when wsl.exe itself failed."""
        code = self._local.exit_code
        return None if code is None else understand_exit(code).code

    @property
    def drained(self) -> bool:
        """Whether it has ended and its last line was read."""
        return self._local.drained

    def read_line(self, timeout_s: float) -> str | None:
        """Return the next line, or None when none came in time or none will come any more."""
        return self._local.read_line(timeout_s)

    def stop(self, grace_s: float) -> None:
        """SIGTERM to its group inside, and after `grace_s` SIGKILL; then end wsl.exe."""
        if self._local.exit_code is None:
            self._signal("TERM")
            deadline = time.monotonic() + grace_s
            while self._local.exit_code is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if self._local.exit_code is None:
                self._signal("KILL")
        self._local.stop(grace_s=1.0)

    def _signal(self, name: str) -> None:
        # The relay gives each command a session of its own, so its id is that of its group.
        try:
            self._host.run(["sh", "-c", 'kill -"$0" -- -"$1"', name, str(self.pid)], timeout_s=_SHORT_S)
        except HostError as problem:  # a distribution that is gone has nothing left to end
            LOG.warning("signal %s to %d: %s", name, self.pid, problem)

    def _await_pid(self, argv: Sequence[str]) -> int:
        deadline, said = time.monotonic() + _BOOT_S, ""
        while not self._local.drained and time.monotonic() < deadline:
            line = self.read_line(1.0)
            if line is not None and line.isdigit():
                return int(line)
            said += f"{line}\n" if line else ""
        self._local.stop(grace_s=1.0)
        code = self._local.exit_code
        if code is None or not self._local.drained:
            raise CommandTimeoutError(argv, _BOOT_S)
        end = understand_exit(code, said)
        if end.ended is Ended.BY_WINDOWS:
            raise WslFailedError(self._line, end.number, said)
        raise CommandNotFoundError(argv)


def automount_root(wsl_conf: str) -> str:
    """Return where drives are mounted, by the text of /etc/wsl.conf."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, inline_comment_prefixes=("#",))
    try:
        parser.read_string(wsl_conf)
    except configparser.Error as problem:
        LOG.warning("/etc/wsl.conf is not understood: %s", problem)
        return AUTOMOUNT_ROOT
    root = parser.get("automount", "root", fallback=AUTOMOUNT_ROOT).strip().strip('"')
    return root if root.startswith("/") else AUTOMOUNT_ROOT


def windows_name(found: WindowsSnapshot) -> str:
    """Return what people call this Windows: the registry still says 10 for 11."""
    if found.server:
        known = {17763: "2019", 20348: "2022", 26100: "2025"}
        return f"Windows Server {known.get(found.build, '')}".strip()
    return f"Windows {11 if found.build >= 22000 else 10} {found.edition}".strip()


def _sound(answer: str) -> tuple[Gpu, ...]:
    return parse_nvidia_smi(answer).gpus

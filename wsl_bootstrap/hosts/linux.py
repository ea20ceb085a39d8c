"""The native host: the person's computer is the Linux that trains."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from urllib.parse import urlsplit

import psutil

from wsl_bootstrap.hosts.base import (
    CommandNotFoundError,
    Completed,
    ElevationRefusedError,
    Gpu,
    GpuFacts,
    HostError,
    HostFacts,
)
from wsl_bootstrap.hosts.process import LocalProcess, run_to_end

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
# WSL puts the driver's tools here, and not always on PATH.
_NVIDIA_SMI = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")
NVIDIA_QUERY = ("--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits")
_NVIDIA_TIMEOUT_S = 15.0
# pkexec: 126 when the person closed the question, 127 when nobody could be asked.
_PKEXEC_REFUSED = (126, 127)


class LinuxHost:
    """See `hosts.base.Host`."""

    def facts(self) -> HostFacts:
        """Read the kernel's and psutil's answers."""
        assert sys.platform == "linux"
        memory = psutil.virtual_memory()
        total_bytes = min(memory.total, _cgroup_limit_bytes() or memory.total)
        return HostFacts(
            os="linux",
            os_name=platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
            os_build=platform.release(),
            boot_id=_BOOT_ID.read_text("ascii").strip(),
            cpu_count=len(os.sched_getaffinity(0)),
            memory_total_bytes=total_bytes,
            memory_available_bytes=min(memory.available, total_bytes),
        )

    def gpu_facts(self) -> GpuFacts:
        """Ask nvidia-smi, where there is one."""
        tool = next((found for name in _NVIDIA_SMI if (found := shutil.which(name))), None)
        if tool is None:
            return GpuFacts()
        try:
            answer = self.run([tool, *NVIDIA_QUERY], timeout_s=_NVIDIA_TIMEOUT_S)
        except HostError as problem:
            return GpuFacts(problem=str(problem))
        if not answer.ok:
            return GpuFacts(problem=(answer.stdout + answer.stderr).strip() or f"exit {answer.exit_code}")
        return parse_nvidia_smi(answer.stdout)

    def free_disk_bytes(self, path: PurePath) -> int:
        """Return the free space of the file system that holds `path` or its nearest existing parent."""
        start = Path(path).absolute()
        existing = next(folder for folder in (start, *start.parents) if folder.exists())
        return shutil.disk_usage(existing).free

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: PurePath | None = None,
    ) -> Completed:
        """Run a command to its end."""
        return run_to_end(argv, timeout_s=timeout_s, env=env, cwd=cwd)

    def command(self, argv: Sequence[str], cwd: PurePath | None = None) -> list[str]:
        """The same command line, with the folder entered first where there is one."""
        return list(argv) if cwd is None else ["env", f"--chdir={cwd}", *argv]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """The same variables."""
        return dict(env or {})

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: PurePath | None = None
    ) -> LocalProcess:
        """Start a command whose output is read as it comes."""
        return LocalProcess(argv, env, cwd)

    def elevate(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        """Run as root: directly when we are root, else through polkit's question."""
        assert sys.platform == "linux"
        if os.geteuid() == 0:
            return self.run(argv, timeout_s=timeout_s)
        if shutil.which("pkexec") is None:
            raise ElevationRefusedError(argv)
        done = self.run(["pkexec", *argv], timeout_s=timeout_s)
        if done.exit_code in _PKEXEC_REFUSED:
            raise ElevationRefusedError(argv)
        return done

    def to_linux_path(self, path: Path) -> str:
        """The same path: there is one machine."""
        return str(path)

    def to_host_path(self, path: str) -> Path:
        """The same path: there is one machine."""
        return Path(path)

    def open_link(self, url: str) -> None:
        """Hand a web address to the desktop."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"not a web page: {url!r}")
        opener = shutil.which("xdg-open")
        if opener is None:
            raise CommandNotFoundError(["xdg-open"])
        self.start([opener, url])


def parse_nvidia_smi(answer: str) -> GpuFacts:
    """Read lines of `name, memory in MiB, driver version, compute capability`.

    A line that is not understood (a GPU that fell off the bus prints words for numbers) becomes the
    `problem`, and the others still count.
    """
    gpus: list[Gpu] = []
    driver_version, problem = "", ""
    for line in filter(str.strip, answer.splitlines()):
        try:
            name, memory_mib, driver_version, capability = (part.strip() for part in line.rsplit(",", 3))
            major, minor = capability.split(".")
            gpus.append(Gpu(name, int(memory_mib) * 2**20, (int(major), int(minor))))
        except ValueError:
            problem = line.strip()
    return GpuFacts(tuple(gpus), driver_version, problem)


def _cgroup_limit_bytes() -> int | None:
    """Return the memory limit of our container, if one is set."""
    try:
        limit = _CGROUP_LIMIT.read_text("ascii").strip()
    except OSError:
        return None
    return int(limit) if limit.isdigit() else None

"""The Linux that trains: by default a distribution of our own, which takes no user name and no Store."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import psutil
from filelock import FileLock, Timeout

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.distribution import (
    REMOVE_TIMEOUT_S,
    WSL_CONF,
    default_folder,
    is_finished,
    is_own,
    marker,
)
from wsl_bootstrap.downloads import download, find_image
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.hosts.base import CommandTimeoutError, Host, HostError, Process
from wsl_bootstrap.hosts.windows import WindowsHost, WslExe, WslFailedError
from wsl_bootstrap.hosts.windows_facts import Distribution
from wsl_bootstrap.live import INSTALL_TIMEOUT_S, run_live
from wsl_bootstrap.options import SetupOptions
from wsl_bootstrap.step import OnEvent, Outcome, OutputLine, Plan, Probe, StepError
from wsl_bootstrap.transfer import Wanted
from wsl_bootstrap.wsl_errors import failure_code
from wsl_bootstrap.wsl_output import names_offered
from wsl_bootstrap.wslconfig import TINY_BYTES, memory_value, parse_size

LOG = logging.getLogger(__name__)

# Ubuntu's image, measured and rounded up; unpacked, with room for what the next steps put into it first.
DOWNLOAD_BYTES, DISK_BYTES = 400 * 10**6, 2_500 * 10**6
_UNPACKED = 4  # a compressed root file system grows to about this many times its size
_LAUNCH_TIMEOUT_S = 60.0
_LOOK_S = 0.2
_AT_WORK = "wsl-at-work.json"
_WITH_APT = ("Ubuntu", "Debian")
_ARCHIVES = (b"\x1f\x8b", b"\xfd7zXZ\x00")


def offered_systems(wsl: WslExe) -> list[str]:
    """Return what WSL can install and set-up can work with, which is what has apt.

    Raises:
        WslFailedError: the list cannot be had. CommandNotFoundError, CommandTimeoutError: as in `Host.run`.
    """
    said = wsl.manage("--list", "--online", timeout_s=_LAUNCH_TIMEOUT_S).stdout
    return [name for name in names_offered(said) if name.startswith(_WITH_APT)]


@dataclass(frozen=True)
class DistroPlan(Plan):
    """Where our distribution goes and what it is made of: a file, or the newest image of a mirror."""

    folder: str = ""
    rootfs: str = ""
    images: str = ""
    proxy: str | None = None


@dataclass(frozen=True)
class DistroStep:
    """Looks at whichever distribution trains; makes only our own."""

    id: str = "distro"
    requires: tuple[str, ...] = ("wsl_version",)

    def probe(self, host: Host) -> Probe:
        """The registry says what there is; only a real launch says that it works."""
        if not isinstance(host, WindowsHost):
            return Probe.not_needed(make_code("not_needed_on_linux"))
        name, found = host.distribution, host.windows.snapshot().distribution(host.distribution)
        if is_own(host):
            return self._probe_own(host, found)
        if found is None:
            return Probe.blocked(make_code("distro_not_there", name=name))
        if not found.is_wsl2:
            command = subprocess.list2cmdline(["wsl", "--set-version", name, "2"])
            return Probe.blocked(make_code("distro_is_wsl1", name=name, command=command), name)
        return _launch(host) or Probe.satisfied(name, make_code("distro_other", name=name))

    def plan(self, host: Host, options: SetupOptions) -> DistroPlan:
        """Find out where it can go and what it is made of.

        Raises:
            StepError: the folder or the file will not do.
        """
        assert isinstance(host, WindowsHost)
        folder = PureWindowsPath(options.folder or default_folder(host.windows.snapshot()))
        images = options.source.images_of(options.system) or ""
        size = _file_size(host, options.rootfs) if options.rootfs else DOWNLOAD_BYTES
        disk_bytes = max(DISK_BYTES, size * _UNPACKED)
        _check_folder(host, folder, disk_bytes)
        common = ("--version", "2")
        if options.rootfs or images:
            file = options.rootfs or str(folder.parent / f"{options.system}.wsl")
            command = (host.wsl.path, "--import", OWN_DISTRIBUTION, str(folder), file, *common)
        else:
            name = ("--name", OWN_DISTRIBUTION, "--location", str(folder))
            command = (
                host.wsl.path,
                "--install",
                options.system,
                *name,
                "--no-launch",
                "--web-download",
                *common,
            )
        return DistroPlan(
            self.id,
            commands=(command,),
            download_bytes=0 if options.rootfs else DOWNLOAD_BYTES,
            disk_bytes=disk_bytes,
            folder=str(folder),
            rootfs=options.rootfs or "",
            images=images,
            proxy=options.proxy,
        )

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        """Install, configure, and mark it as finished last.

        Raises:
            StepError, HostError, CancelledError: it was not; nothing half-made is left, or the next look
                finds it and clears it away.
        """
        assert isinstance(host, WindowsHost)
        assert isinstance(plan, DistroPlan)
        with _alone(host) as folder:
            _await_earlier(folder / _AT_WORK, on_event, cancel)
            (command,) = plan.commands
            image = self._fetch(host, plan, on_event, cancel)
            found = host.windows.snapshot().distribution(OWN_DISTRIBUTION)
            if found is None or not (found.installed and found.is_wsl2 and _launch(host) is None):
                _discard(host)
                host.windows.local_path(PureWindowsPath(plan.folder)).mkdir(parents=True, exist_ok=True)
                try:
                    _run_wsl(host, command, folder / _AT_WORK, on_event, cancel)
                except BaseException:
                    _discard(host)
                    raise
            _configure(host)
            if image is not None:
                image.unlink(missing_ok=True)
        return Outcome()

    def _probe_own(self, host: WindowsHost, found: Distribution | None) -> Probe:
        if found is None:
            return Probe.missing(make_code("distro_missing", name=OWN_DISTRIBUTION))
        if not is_finished(host, found):
            return Probe.missing(make_code("distro_half_made", name=OWN_DISTRIBUTION))
        return _launch(host) or Probe.satisfied(found.name)

    def _fetch(
        self, host: WindowsHost, plan: DistroPlan, on_event: OnEvent, cancel: CancelToken
    ) -> Path | None:
        """Download the image that the plan's command names, where it comes from a mirror; return the file."""
        if plan.rootfs or not plan.images:
            return None
        machine = "arm64" if host.windows.snapshot().machine == "ARM64" else "amd64"
        url, sha256 = find_image(plan.images, machine, plan.proxy)
        on_event(OutputLine(url))
        target = host.windows.local_path(PureWindowsPath(plan.commands[0][4]))
        download([url], target, Wanted(sha256), on_event, cancel, plan.proxy)
        return target


def _launch(host: WindowsHost) -> Probe | None:
    """Run the smallest command inside; return what stands in its way, or None."""
    try:
        done = host.run(["true"], timeout_s=_LAUNCH_TIMEOUT_S)
    except WslFailedError as problem:
        if problem.code.id == "vm_no_answer" and (odd := _odd_memory(host)):
            return odd
        if problem.code.id != "wsl_failed":
            return Probe.blocked(problem.code, host.distribution)
        token = str(problem.code.args["token"])
    except CommandTimeoutError:
        token = "time-out"
    else:
        if done.ok:
            return None
        token = str(done.exit_code)
    command = subprocess.list2cmdline(["wsl", "--unregister", host.distribution])
    code = make_code("distro_broken", name=host.distribution, token=token, command=command)
    return Probe.blocked(code, host.distribution)


def _odd_memory(host: WindowsHost) -> Probe | None:
    """Return what is wrong with the person's memory limit, where the machine cannot start with it."""
    path = PureWindowsPath(host.windows.snapshot().profile, ".wslconfig")
    try:
        value = memory_value(host.windows.local_path(path).read_text("utf-8-sig", "replace"))
    except OSError:
        return None
    size = parse_size(value) if value is not None else None
    if value is None or size is None or size >= TINY_BYTES:
        return None
    return Probe.blocked(make_code("wslconfig_odd", path=str(path), value=value))


def _file_size(host: WindowsHost, rootfs: str) -> int:
    path = host.windows.local_path(PureWindowsPath(rootfs))
    try:
        with path.open("rb") as file:
            head = file.read(262)
    except OSError:
        raise StepError(make_code("rootfs_missing", path=rootfs)) from None
    if not head.startswith(_ARCHIVES) and head[257:262] != b"ustar":
        raise StepError(make_code("rootfs_not_archive", path=rootfs))
    return path.stat().st_size


def _check_folder(host: WindowsHost, folder: PureWindowsPath, need_bytes: int) -> None:
    """Refuse a folder in which the distribution's disk does not work, before anything is made."""
    volume = host.windows.volume(folder)
    for wrong, code_id in (
        (volume.kind in ("network", "subst", "missing"), "folder_not_local"),
        (volume.compressed, "folder_compressed"),
        (volume.encrypted, "folder_encrypted"),
    ):
        if wrong:
            raise StepError(make_code(code_id, path=str(folder)))
    if volume.free_bytes < need_bytes:
        have_gb, need_gb = round(volume.free_bytes / 1e9, 1), round(need_bytes / 1e9, 1)
        raise StepError(make_code("disk_full", path=str(folder), have_gb=have_gb, need_gb=need_gb))


@contextlib.contextmanager
def _alone(host: WindowsHost) -> Iterator[Path]:
    """Keep a second copy of this program from clearing away what the first is just making.

    Gives the folder on the Windows side in which notes of that may lie.
    """
    folder = host.windows.local_path(default_folder(host.windows.snapshot()).parent)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder, "set-up.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StepError(make_code("set_up_elsewhere")) from None
    try:
        yield folder
    finally:
        lock.release()


def _note(process: Process, file: Path) -> None:
    """Note which wsl.exe is at work: it outlives this program if that is killed."""
    with contextlib.suppress(psutil.Error):
        file.write_text(json.dumps([process.pid, psutil.Process(process.pid).create_time()]), "utf-8")


def _await_earlier(file: Path, on_event: OnEvent, cancel: CancelToken) -> None:
    """Wait for the wsl.exe of an earlier start of this program, and go on from what it leaves.

    Raises:
        CancelledError: while waiting.
    """
    with contextlib.suppress(OSError, ValueError, TypeError, psutil.Error):
        pid, created = json.loads(file.read_text("utf-8"))
        earlier = psutil.Process(pid)
        if earlier.create_time() != created:  # the number has passed to a stranger
            return
        on_event(OutputLine(f"wsl.exe ({pid}) …"))
        while earlier.is_running() and earlier.status() != psutil.STATUS_ZOMBIE:
            if cancel.wait(_LOOK_S):
                raise CancelledError


def _discard(host: WindowsHost) -> None:
    """Remove what is left of an unfinished installation of ours; never one that was finished."""
    found = host.windows.snapshot().distribution(OWN_DISTRIBUTION)
    if found is None or is_finished(host, found):
        return
    try:
        host.wsl.manage("--unregister", found.name, timeout_s=REMOVE_TIMEOUT_S)
    except HostError as problem:  # the next look finds it, and says so where it cannot be helped
        LOG.warning("half-made %s: %s", found.name, problem)


def _run_wsl(
    host: WindowsHost, command: tuple[str, ...], note: Path, on_event: OnEvent, cancel: CancelToken
) -> None:
    on_event(OutputLine("$ " + shlex.join(command)))
    done = run_live(
        host.wsl, command[1:], on_event, cancel, timeout_s=INSTALL_TIMEOUT_S,
        on_start=lambda process: _note(process, note),
    )  # fmt: skip
    note.unlink(missing_ok=True)
    if not done.ok:
        code, retryable = failure_code(
            subprocess.list2cmdline(command), done.exit_code & 0xFFFFFFFF, done.stdout
        )
        raise StepError(code, retryable=retryable)


def _configure(host: WindowsHost) -> None:
    """Give it our settings, let them take effect, and only then call it finished.

    Raises:
        StepError, HostError: it does not work.
    """
    done = host.run(["tee", "/etc/wsl.conf"], timeout_s=_LAUNCH_TIMEOUT_S, stdin=WSL_CONF.encode())
    if not done.ok:
        detail = (done.stdout + done.stderr)[-500:]
        raise StepError(
            make_code("command_failed", command="tee /etc/wsl.conf", exit_code=done.exit_code, detail=detail)
        )
    host.wsl.manage("--terminate", OWN_DISTRIBUTION, timeout_s=_LAUNCH_TIMEOUT_S)
    found = host.windows.snapshot().distribution(OWN_DISTRIBUTION)
    assert found is not None
    marker(host, found.base_path).write_text("", "utf-8")

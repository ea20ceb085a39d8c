"""The virtual machine: distributions are root file systems in namespaces of their own, and really run."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pty
import pwd
import select
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from world import World, WslError

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000  # mount, UTS, IPC, PID
_BOOT_S = 20.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/wsl/lib"
INIT = Path(__file__).with_name("init.py")


class Machine:
    """Starts, enters and ends distributions."""

    def __init__(self, world: World) -> None:
        self._world = world

    def root(self, distribution: dict[str, Any]) -> Path:
        return self._world.base_folder(distribution) / "rootfs"

    def pid(self, distribution: dict[str, Any]) -> int | None:
        """Return the process 1 of a running distribution, as this machine counts, or None."""
        try:
            told = json.loads(self._instance(distribution).read_text())
        except (OSError, ValueError):
            return None
        return told["pid"] if _started(told["pid"]) == told["started"] else None

    def terminate(self, distribution: dict[str, Any]) -> None:
        """End everything in a distribution at once."""
        pid = self.pid(distribution)
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        while self.pid(distribution) is not None:
            time.sleep(0.02)

    def hold(self, distribution: dict[str, Any]) -> IO[str]:
        """Keep a distribution from falling asleep while the file is open and its process lives."""
        held = open(self._world.base_folder(distribution) / "clients.lock", "w")  # noqa: SIM115
        fcntl.flock(held, fcntl.LOCK_SH)
        return held

    def boot(self, distribution: dict[str, Any]) -> int:
        """Return the process 1 of a distribution, started where it does not run.

        Raises:
            WslError: it cannot start.
        """
        base, root = self._world.base_folder(distribution), self.root(distribution)
        with open(base / "boot.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            pid = self.pid(distribution)
            if pid is not None:
                return pid
            ready = base / "ready"
            ready.unlink(missing_ok=True)
            self._start_init(base, root, ready, distribution)
            deadline = time.monotonic() + _BOOT_S
            while not ready.exists():
                if time.monotonic() > deadline:
                    raise WslError("Wsl/Service/CreateInstance/CreateVm/HCS/HCS_E_CONNECTION_TIMEOUT")
                time.sleep(0.02)
            pid = self.pid(distribution)
            if pid is None:
                raise WslError("Wsl/Service/E_UNEXPECTED")
            return pid

    def _start_init(self, base: Path, root: Path, ready: Path, distribution: dict[str, Any]) -> None:
        own, drives = self._world.own, self._world.read().get("drives", {})
        binds = [f"{folder}=/mnt/{letter.lower()}" for letter, folder in drives.items()]
        binds += [f"{path}={path}" for path in own.get("binds", []) if os.path.exists(path)]
        line = [
            sys.executable, "-I", str(INIT), str(root), str(base / "clients.lock"),
            str(own.get("idle_s", 15.0)), str(self._world.memory_kib()), str(ready), *binds,
        ]  # fmt: skip
        if os.fork():
            os.wait()
            return
        # The one in between ends at once, so that process 1 belongs to nobody who may be killed.
        os.setsid()
        if _LIBC.unshare(_NEW_NAMESPACES):
            os._exit(1)
        child = os.fork()
        if child:
            told = {"pid": child, "started": _started(child)}
            self._instance(distribution).write_text(json.dumps(told))
            os._exit(0)
        name = ctypes.create_string_buffer(b"standin")
        _LIBC.sethostname(name, 7)
        log = os.open(base / "init.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDWR)
        for number, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(number, target)
        os.closerange(3, 4096)
        os.execv(line[0], line)

    def _instance(self, distribution: dict[str, Any]) -> Path:
        return self._world.base_folder(distribution) / "instance.json"

    def run(
        self,
        distribution: dict[str, Any],
        argv: list[str] | None,
        script: str | None,
        *,
        user: str | None = None,
        login: bool = False,
        folder: str | None,
        env: Mapping[str, str],
        crash_after_s: float | None = None,
    ) -> int:
        """Run a command inside and pass its streams through; return what wsl.exe would end with.

        Raises:
            WslError: nobody of that name is known inside, or the machine crashed.
        """
        if not self.root(distribution).is_dir():
            raise WslError("Wsl/Service/CreateInstance/MountVhd/HCS/ERROR_FILE_NOT_FOUND")
        held = self.hold(distribution)
        init, root = self.boot(distribution), self.root(distribution)
        while (namespaces := _namespaces(init)) is None:  # it was just ending
            init = self.boot(distribution)
        account = self.account(distribution, user)
        variables = self._variables(distribution, account, env)
        cwd = self._folder(folder, account, env)
        if argv is None:
            shell = (account.pw_shell, *(("-l",) if login or not script else ()))
            argv = [*shell, *(("-c", script) if script else ())]
        for namespace in namespaces:
            if _LIBC.setns(namespace, 0):
                raise WslError("Wsl/Service/CreateInstance/E_FAIL")
            os.close(namespace)
        pipes = [os.pipe() for _ in range(3)]
        # As the real relay: a terminal of its own, whose end is the SIGHUP, and pipes over it.
        pid, terminal = pty.fork()
        if pid == 0:
            _become(argv, pipes, root, account, cwd, variables)
        for end in (pipes[0][0], pipes[1][1], pipes[2][1]):
            os.close(end)
        crash = None if crash_after_s is None else (time.monotonic() + crash_after_s, init)
        try:
            return _relay(pid, pipes[0][1], (pipes[1][0], pipes[2][0]), crash)
        finally:
            os.close(terminal)
            held.close()

    def account(self, distribution: dict[str, Any], user: str | None) -> pwd.struct_passwd:
        """Return whom a name means inside, or the distribution's default user.

        Raises:
            WslError: nobody.
        """
        default = self._world.own.get("settings", {}).get(distribution["guid"], {}).get("default_uid", 0)
        for line in (self.root(distribution) / "etc" / "passwd").read_text().splitlines():
            name, password, uid, gid, gecos, home, shell = line.split(":")
            if name == user or (user is None and int(uid) == default):
                return pwd.struct_passwd((name, password, int(uid), int(gid), gecos, home, shell))
        raise WslError("Wsl/Service/WSL_E_USER_NOT_FOUND", "user")

    def _variables(
        self, distribution: dict[str, Any], account: pwd.struct_passwd, env: Mapping[str, str]
    ) -> dict[str, str]:
        passed = {}
        for item in filter(None, env.get("WSLENV", "").split(":")):
            name, _, flags = item.partition("/")
            if name in env and "w" not in flags:
                value = env[name]
                if "p" in flags:
                    value = self._world.linux_path(value)
                elif "l" in flags:
                    value = ":".join(map(self._world.linux_path, value.split(";")))
                passed[name] = value
        return {
            "PATH": _PATH, "LANG": "en_US.UTF-8", "TERM": "xterm-256color", "HOSTTYPE": "x86_64",
            "WSL_DISTRO_NAME": distribution["name"], "WSLENV": env.get("WSLENV", ""),
            "HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell, **passed,
        }  # fmt: skip

    def _folder(self, folder: str | None, account: pwd.struct_passwd, env: Mapping[str, str]) -> str:
        if folder is None:
            here = self._world.windows_path(os.getcwd())
            return self._world.linux_path(here) if here else account.pw_dir
        if folder.startswith("~"):
            return account.pw_dir + folder[1:]
        return self._world.linux_path(folder)


def _namespaces(pid: int) -> list[int] | None:
    """Return a process's namespaces, opened, the one of mounts last; None where it is gone."""
    try:
        return [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in ("uts", "ipc", "pid", "mnt")]
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Return when a process of this machine began, or None where there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _become(
    argv: list[str],
    pipes: list[tuple[int, int]],
    root: Path,
    account: pwd.struct_passwd,
    cwd: str,
    env: dict[str, str],
) -> None:
    """Be the command; never returns."""
    code = 1
    try:
        for (read, write), target in zip(pipes, (0, 1, 2), strict=True):
            os.dup2(read if target == 0 else write, target)
        os.closerange(3, 4096)
        os.chroot(root)
        try:
            os.chdir(cwd)
        except OSError:
            os.chdir(account.pw_dir if os.path.isdir(account.pw_dir) else "/")
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP) and number < 32:
                signal.signal(number, signal.SIG_DFL)
        code = 127 if shutil.which(argv[0], path=env["PATH"]) is None else 1
        os.execvpe(argv[0], argv, env)
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process may not go on
        words = f"<3>WSL (1) ERROR: CreateProcessCommon:798: execvpe({argv[0]}) failed: {error}\n"
        os.write(2, words.encode())
    finally:
        os._exit(code)


def _relay(pid: int, stdin: int | None, outputs: tuple[int, int], crash: tuple[float, int] | None) -> int:
    """Copy streams until the command has ended; what it left running may keep its pipes, unwaited for.

    `crash` is when to end the whole machine, and its process 1.
    """
    sources: dict[int, int] = {outputs[0]: 1, outputs[1]: 2}
    watched: list[int] = [0]
    status, ended = None, 0.0
    while True:
        ready = select.select([*sources, *watched], [], [], 0.05)[0]
        for source in ready:
            block = os.read(source, 1 << 16)
            if source == 0:
                if stdin is not None and not _pass(stdin, block):
                    os.close(stdin)
                    stdin, watched = None, []
            elif block:
                _pass(sources[source], block)
            else:
                del sources[source]
        if crash is not None and time.monotonic() > crash[0]:
            os.kill(crash[1], signal.SIGKILL)
            raise WslError("Wsl/Service/E_UNEXPECTED")
        if status is None:
            done, raw = os.waitpid(pid, os.WNOHANG)
            if done:
                status, ended = raw, time.monotonic()
        if status is not None and (not sources or (not ready and time.monotonic() - ended > 0.1)):
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else status


def _pass(target: int, block: bytes) -> bool:
    """Write everything; False at the end of the input, or where nobody reads any more."""
    try:
        while block:
            block = block[os.write(target, block) :]
            if not block:
                return True
    except OSError:
        pass
    return False
